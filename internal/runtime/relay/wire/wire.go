// Package wire is what the relay in a container and the control plane say to each other: the
// proof, the multiplexed connection, requests, and connections with half close. Both ends import
// it, so it imports nothing of the server.
package wire

// Where things are in a container.
const (
	// VolumePath is where the volume of an agent's home is mounted.
	VolumePath = "/home/agent"
	// RunPath is a tmpfs that only the agent's user can enter, for the secrets.
	RunPath = "/run/agento"
	// Socket is the unix socket of the relay. It is an abstract one: it has no file that the agent
	// could replace by its own.
	Socket = "@agento-relay"
	// GatewayPort is the port of the gateway.
	GatewayPort = 18789
	// ServerPort is where the gateway calls the server.
	ServerPort = 18790
	// ProxyPort is the agent's way out: a proxy for HTTP, CONNECT and SOCKS5.
	ProxyPort = 18791
)

// Names inside of VolumePath and RunPath.
const (
	HomeName    = "home"
	TrashName   = "trash"
	SecretsName = "secrets.json"
)

// Exit codes of the relay that are not the gateway's.
const (
	// ExitFailed means that the relay could not begin.
	ExitFailed = 125
	// ExitOverDisk means that the agent's files exceeded a limit.
	ExitOverDisk = 243
)

// Environment variables of the container.
const (
	EnvKey   = "AGENTO_RELAY_KEY" // public
	EnvAgent = "AGENTO_RELAY_AGENT"
	EnvPlace = "AGENTO_RELAY_PLACE"
	EnvEpoch = "AGENTO_RELAY_EPOCH"
)

// Limits of what one end accepts from the other.
const (
	// MaxFile is the longest file that is read or written.
	MaxFile = 100 << 20
	// MaxFiles is how many files can be written at a start.
	MaxFiles = 20_000
	// MaxEntries is how many entries a directory may have to be listed.
	MaxEntries = 100_000
	// MaxRequest is the longest request, without files.
	MaxRequest = 4 << 20
	// MaxAnswer is the longest answer, without what was read.
	MaxAnswer = 64 << 10
	// MaxListing is the longest list of entries. Source: names have at most 255 bytes.
	MaxListing = MaxEntries * 500
)
