package openclaw

// For the fuzz tests, and for calls that only tests make.
var (
	ReadTurn     = readTurn
	ParseMessage = parseMessage
	Call         = (*Gateway).call
)

// DialOf returns a gateway's Dial, to connect with another token.
func DialOf(g *Gateway) Dial { return g.dial }
