"""What a graph means, and every rule about it. Pure, but for the cache of compiled graphs."""
