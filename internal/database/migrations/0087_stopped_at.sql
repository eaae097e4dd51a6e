-- An agent that runs was not stopped. From here on, its start clears the time.
UPDATE agents SET stopped_at = 0 WHERE status = 'running';
