package main

import (
	"math/rand/v2"
	"strings"
)

// People ask in sentences; headings and dictionaries do not. Some short texts are
// therefore changed into questions, so that the model learns to ignore such words.
var (
	openings = strings.Split(`how do I|how can I|how do you|can I|could I|may I|do I have to|do I need to|is it possible to|what is|what are|what does it mean:|`+
		`where do I find|where can I|where is|when can I|when do I|when is|why does my|why is the|who can|which|I want to|I need|I would like to|I have a question about|`+
		`please tell me about|tell me|is there|are there|do you have|does it|what do I do about|what happens with|what if|how long|how often|how much|how many|how does|`+
		`can you help me with|I don't understand|my|we|our|can we|do we|should I|what should I do if|will you|is my|does my`, "|")
	closings = strings.Split(`|||||||please|work|it|now|here|with this|for me|for us|again|in this case|to do|if I want|thanks`, "|")
)

// questionShare of the texts of at most questionWords words become questions.
const (
	questionShare = 0.35
	questionWords = 14
)

// maybeQuestion returns the text, or a question made of it.
func maybeQuestion(rng *rand.Rand, text string) string {
	if strings.Count(text, " ") >= questionWords || rng.Float64() >= questionShare {
		return text
	}
	return openings[rng.IntN(len(openings))] + " " + text + " " + closings[rng.IntN(len(closings))]
}
