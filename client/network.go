package client

import (
	"context"
	"net/http"
)

// Network is where an agent may connect to, and where it has connected to.
type Network struct {
	Egress       string               `json:"egress" enum:"open,list,model,none" doc:"The policy in force: config.egress, or its default."`
	Hosts        []string             `json:"hosts" doc:"What the policy allows: the list, or for model the hosts of the enabled channels. Empty for none; open allows every public host."`
	Limits       NetworkLimits        `json:"limits" doc:"Limits of the network of the agent."`
	Connections  int                  `json:"connections" doc:"Connections that are open now."`
	Destinations []NetworkDestination `json:"destinations" doc:"The latest first. The entry without a host sums those that are not listed any more."`
	Refused      []RefusedDestination `json:"refused" doc:"The latest first."`
}

// NetworkLimits are the limits of an agent's network.
type NetworkLimits struct {
	Connections         int `json:"connections" doc:"Connections that may be open at the same time."`
	BytesPerSecond      int `json:"bytesPerSecond" doc:"In both directions together."`
	DNSQueriesPerSecond int `json:"dnsQueriesPerSecond" doc:"Names that may be looked up in a second."`
	DialSeconds         int `json:"dialSeconds" doc:"How long a host may take to accept a connection."`
	IdleSeconds         int `json:"idleSeconds" doc:"After which a connection without traffic is reset."`
}

// NetworkDestination is what an agent has exchanged with one host and port.
type NetworkDestination struct {
	Host        string `json:"host" example:"api.example.com" doc:"A name, or an address if the agent named that."`
	Port        int    `json:"port" example:"443" doc:"Port of the host."`
	Connections int64  `json:"connections" doc:"Connections that were made."`
	Failed      int64  `json:"failed" doc:"Connections that the host did not accept."`
	BytesIn     int64  `json:"bytesIn" doc:"Bytes to the agent."`
	BytesOut    int64  `json:"bytesOut" doc:"Bytes from the agent."`
	LastAt      *Time  `json:"lastAt" doc:"When the last connection was made."`
}

// RefusedDestination is a host that an agent could not connect to for one reason.
type RefusedDestination struct {
	Host    string `json:"host" example:"api.example.com" doc:"The host that was asked for."`
	Port    int    `json:"port" doc:"0 if its name was not resolved."`
	Reason  string `json:"reason" enum:"policy,private_address,forbidden_address,other_name,limit,unknown_address" doc:"Why it was refused."`
	Message string `json:"message" doc:"Message for people."`
	Allow   string `json:"allow" doc:"What to do so that it is allowed."`
	Count   int64  `json:"count" doc:"How often it was refused."`
	LastAt  *Time  `json:"lastAt" doc:"When it was last refused."`
}

// Network returns where an agent may connect to, and where it has connected to.
func (c *Client) Network(ctx context.Context, agentID string) (Network, error) {
	return data[Network](ctx, c, http.MethodGet, agentPath(agentID)+"/network", nil)
}
