package redact

import "strings"

// minHeld is how much of the secret the end of a text must be for the text to be held.
// Shorter beginnings are in too many texts. They are passed on, and are all of the secret
// that is.
const minHeld = 4

// Piece is a part of a text that comes in pieces, such as the delta of an event.
type Piece struct {
	Text    string
	Changed bool // Text is not what it was
}

// Pieces finds the secret in a text that comes in pieces.
type Pieces struct {
	secret  Secret
	matched int      // how much of the secret the text so far ends with
	held    []*Piece // that end with it, oldest first
}

// Pieces returns what finds the secret in one text.
func (s Secret) Pieces() *Pieces { return &Pieces{secret: s} }

// Add reads the next piece and replaces the secret in it, and what it has of the secret in
// the pieces before it. It reports whether the piece, and those before it, must be held until
// the next one.
func (p *Pieces) Add(piece *Piece) (hold bool) {
	if p.secret.Empty() {
		return false
	}
	if text := p.secret.Text(piece.Text); text != piece.Text {
		piece.Text, piece.Changed = text, true
	}
	plain := p.secret.plain
	for i := 0; i < len(piece.Text); i++ {
		c := piece.Text[i]
		for p.matched > 0 && plain[p.matched] != c {
			p.matched = p.secret.failure[p.matched-1]
		}
		if plain[p.matched] == c {
			p.matched++
		}
		if p.matched < len(plain) {
			continue
		}
		p.cutHeld(len(plain) - (i + 1))
		piece.Text, piece.Changed = Replacement+piece.Text[i+1:], true
		i, p.matched = len(Replacement)-1, 0
	}
	if p.matched < minHeld {
		p.held = p.held[:0]
		return false
	}
	p.held = append(p.held, piece)
	return true
}

// cutHeld removes the last n bytes of the pieces that are held. Some may have been passed on.
func (p *Pieces) cutHeld(n int) {
	for i := len(p.held) - 1; i >= 0 && n > 0; i-- {
		piece := p.held[i]
		cut := min(n, len(piece.Text))
		piece.Text, piece.Changed = piece.Text[:len(piece.Text)-cut], true
		n -= cut
	}
	p.held = p.held[:0]
}

// Release says that the pieces so far were passed on. The rest of a secret that they end
// with is replaced nevertheless.
func (p *Pieces) Release() { p.held = nil }

// Cut ends the text, and replaces its end that can be the beginning of the secret.
func (p *Pieces) Cut() {
	if n := len(p.held); n > 0 {
		last := p.held[n-1]
		p.cutHeld(p.matched)
		last.Text, last.Changed = strings.TrimSpace(last.Text)+Replacement, true
	}
	p.matched, p.held = 0, nil
}
