-- What the model calls of a turn have used, beside input_tokens and output_tokens. cost_micros is the price, in
-- millionths of a dollar, of all but unpriced_requests; estimated_requests are those whose tokens no provider has
-- reported.
ALTER TABLE turns ADD COLUMN requests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN estimated_requests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN unpriced_requests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN cache_read_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN cache_write_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN cost_micros BIGINT NOT NULL DEFAULT 0;
