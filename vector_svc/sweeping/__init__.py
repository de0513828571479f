"""What is done about points whose time has come."""
