package openclaw

// ReadTurn and ParseMessage are what the fuzz tests feed.
var (
	ReadTurn     = readTurn
	ParseMessage = parseMessage
)

// DialOf gives the way to a gateway, to try it with another token.
func DialOf(g *Gateway) Dial { return g.dial }
