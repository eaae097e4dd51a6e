package budget

import (
	"log/slog"
	"net/netip"
	"time"
)

const (
	// defaultMemory is what a Server counts with if its memory is not known.
	defaultMemory = 2 << 30
	// defaultDescriptors likewise; most systems have at least so many.
	defaultDescriptors = 4096
	// memoryPart of a server's memory may be bodies and answers of callers, and as much
	// those of agents; holderPart of that may be one holder's.
	memoryPart = 8
	holderPart = 4
	// maxMemory and minMemory bound these parts. The latter has room for the largest
	// request of each holder.
	maxMemory = 1 << 30
	minMemory = 128 << 20
	// memoryWait is how long a request waits for memory.
	memoryWait = 5 * time.Second

	// maxScans is how many skills are scanned at the same time, one of each account. A scan
	// of two megabytes takes seconds of a processor.
	maxScans = 2
	scanWait = 20 * time.Second

	// waiting is how many bytes of messages wait for gateways that sleep or boot, those of each
	// account, and of all.
	waitingOfAccount = 16 << 20
	waiting          = 64 << 20

	keyStreams     = 50
	accountStreams = 200

	// unclaimed connections of a listener, of which a request takes one for the time until
	// it is authenticated.
	maxUnclaimed        = 1024
	maxOfAddress        = 256
	maxOfKey            = 256
	maxOfAgent          = 64
	maxAPIConnections   = 16384
	maxAgentConnections = 4096
)

// ServerSettings are what a server has.
type ServerSettings struct {
	Memory      int64 // in bytes; 0: unknown
	Descriptors int64 // that the process may have open; 0: unknown
	// Exempt addresses are the operator's proxies.
	Exempt func(netip.Addr) bool
	Log    *slog.Logger
	// Refused is called with the name of the resource for each refusal. It must not block.
	// Nil means that nobody is told.
	Refused func(resource string)
}

// Server has the budgets of one server. docs/limits.md lists their numbers.
type Server struct {
	Memory         *Budget // bytes of requests and responses; holders are accounts
	AgentMemory    *Budget // bytes of what agents send; holders are agents
	KeyStreams     *Budget // holders are keys
	AccountStreams *Budget // holders are accounts

	Scans   *Budget // scans of skills; holders are accounts
	Waiting *Budget // bytes of messages that wait for gateways; holders are accounts

	API    *Connections // holders are keys, groups are accounts
	Agents *Connections // holders are agents, groups are accounts
}

// NewServer returns the budgets of a server. A quarter of the descriptors is for neither
// callers nor agents, and what agents may have leaves the rest to callers.
func NewServer(s ServerSettings) *Server {
	if s.Memory <= 0 {
		s.Memory = defaultMemory
	}
	if s.Descriptors <= 0 {
		s.Descriptors = defaultDescriptors
	}
	memory := min(max(s.Memory/memoryPart, minMemory), maxMemory)
	callers, agents := int(min(s.Descriptors/2, maxAPIConnections)), int(min(s.Descriptors/4, maxAgentConnections))
	return &Server{
		Memory: New(Settings{
			Resource: "memory of requests", Total: memory, Each: memory / holderPart, Wait: memoryWait, Log: s.Log, Refused: s.Refused,
			Refusal: "This account has too much data in open requests. Send smaller ones or fewer at once, and read the responses.",
		}),
		AgentMemory: New(Settings{
			Resource: "memory of agents' requests", Total: memory, Each: memory / holderPart, Wait: memoryWait, Log: s.Log, Refused: s.Refused,
			Refusal: "This agent has too much data in open requests. Make fewer at once.",
		}),
		KeyStreams: New(Settings{
			Resource: "streams of a key", Each: keyStreams, Log: s.Log, Refused: s.Refused, Refusal: "This API key has too many open streams. Close some, or read turns without a stream.",
		}),
		AccountStreams: New(Settings{
			Resource: "streams of an account", Each: accountStreams, Log: s.Log, Refused: s.Refused, Refusal: "This account has too many open streams. Close some, or read turns without a stream.",
		}),
		Scans: New(Settings{
			Resource: "scans of skills", Total: maxScans, Each: 1, Wait: scanWait, Log: s.Log, Refused: s.Refused, Refusal: "Too many skills of this account wait to be scanned. Send one request after the other.",
		}),
		Waiting: New(Settings{
			Resource: "messages that wait", Total: waiting, Each: waitingOfAccount, Log: s.Log, Refused: s.Refused,
			Refusal: "Too many messages of this account wait for agents that wake or start.",
		}),
		API: NewConnections(ConnectionSettings{
			Door: "api", Total: callers, Unnamed: min(maxUnclaimed, callers/4), Address: maxOfAddress, Holder: maxOfKey, Group: callers / 2, Exempt: s.Exempt, Log: s.Log, Refused: s.Refused,
		}),
		Agents: NewConnections(ConnectionSettings{
			Door: "agents", Total: agents, Unnamed: min(maxUnclaimed, agents/4), Holder: maxOfAgent, Group: agents / 4 * 3, Log: s.Log, Refused: s.Refused,
		}),
	}
}
