package api

import "agento.host/agento/client"

// costJSON returns the price of requests, which is null if it is known of none of them.
func costJSON(requests, estimated, unpriced, micros int64) client.Cost {
	c := client.Cost{Requests: requests, EstimatedRequests: estimated, UnpricedRequests: unpriced}
	if requests == 0 || unpriced < requests {
		c.CostMicros = &micros
	}
	return c
}
