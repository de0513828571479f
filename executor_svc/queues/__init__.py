"""Operations: queues and workers, their signals for autoscalers, and steps that failed."""
