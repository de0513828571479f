"""Schedules: tasks that are created again and again, as a cron expression says."""
