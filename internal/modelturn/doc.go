// Package modelturn keeps what the model calls of one turn say and cost: their text in the
// order of the calls, why the last one stopped, and the limits that end a turn. It owns
// neither the calls nor the turn: the model proxy reports the calls, and who runs the turn
// gets the text.
package modelturn
