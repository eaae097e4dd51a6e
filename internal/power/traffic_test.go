package power_test

import (
	"container/heap"
	"math"
	"math/rand/v2"
)

// perDay is how many messages an agent gets in a day, on average. Few agents get most of them.
const perDay = 10

// traffic is a kind of days.
type traffic struct {
	name string
	// next returns when an agent's next message comes.
	next func(random *rand.Rand, a *sender, now float64) float64
	// crowd is how many agents, but at most a tenth of all, get a message at the same time, every
	// two hours.
	crowd int
}

// sender is who writes to an agent.
type sender struct {
	share float64 // of the mean of all
	left  int     // messages of the conversation that goes on
}

var traffics = []traffic{
	{name: "Poisson", next: func(random *rand.Rand, a *sender, now float64) float64 {
		return now + random.ExpFloat64()*secondsOfDay/perDay/a.share
	}},
	{name: "bursty", next: conversation, crowd: 50},
	{name: "diurnal", next: func(random *rand.Rand, a *sender, now float64) float64 {
		for {
			now += random.ExpFloat64() * secondsOfDay / perDay / a.share / 1.9
			// From a tenth at night to nearly twice the mean in the afternoon.
			if want := 1 - 0.9*math.Cos(2*math.Pi*(now/secondsOfDay-3.0/24)); random.Float64()*1.9 < want {
				return now
			}
		}
	}},
}

// conversation has six messages on average, with 40 s between them.
func conversation(random *rand.Rand, a *sender, now float64) float64 {
	if a.left > 0 {
		a.left--
		return now + random.ExpFloat64()*40
	}
	for random.IntN(6) > 0 {
		a.left++
	}
	return now + random.ExpFloat64()*secondsOfDay/perDay*6/a.share
}

// arrivals returns the messages of a day and of the warm-up before it, the same each time.
func (k traffic) arrivals(agents int, end float64) func(yield func(at float64, agent int) bool) {
	return func(yield func(float64, int) bool) {
		random := rand.New(rand.NewPCG(uint64(agents), 11))
		senders := make([]sender, agents)
		var next schedule
		for i := range senders {
			senders[i].share = math.Exp(random.NormFloat64() - 0.5)
			next = append(next, happening{at: k.next(random, &senders[i], 0), order: i})
		}
		heap.Init(&next)
		crowd := 3600.0
		for {
			h := next[0]
			if k.crowd > 0 && crowd < h.at && crowd < end {
				for range min(k.crowd, agents/10) {
					if !yield(crowd, random.IntN(agents)) {
						return
					}
				}
				crowd += 7200
				continue
			}
			if h.at >= end || !yield(h.at, h.order) {
				return
			}
			next[0].at = k.next(random, &senders[h.order], h.at)
			heap.Fix(&next, 0)
		}
	}
}
