package modelturn

import "strings"

// reasoningTags are the elements in which models without a field of their own for it write
// their reasoning. Only one that opens the content of a call and is closed is reasoning:
// everywhere else a model writes about these elements.
var reasoningTags = []string{"think", "thinking", "reasoning"}

// maxReasoning is how long an element may be that is held until it is closed, in bytes. A
// longer one is text.
const maxReasoning = 1 << 20

// splitter separates an element of reasoning at the start of a call's content from the text
// after it. It holds the start of the content until it is clear which of both it is.
type splitter struct {
	held      strings.Builder
	tag       string // the name of the element that opens the content; empty until it is known
	searched  int    // how much of held has no closing tag
	passing   bool   // the rest is text
	trimming  bool   // blanks between the element and the text are not sent
	reasoning int    // the length of the element, in bytes
}

// write reads the next piece of the content and returns what is text for sure.
func (s *splitter) write(piece string) string {
	if s.passing {
		return s.trim(piece)
	}
	s.held.WriteString(piece)
	held := s.held.String()
	if s.tag == "" {
		var possible bool
		if s.tag, possible = openingTag(held); s.tag == "" {
			if possible {
				return ""
			}
			return s.release()
		}
	}
	closing := "</" + s.tag + ">"
	from := max(0, s.searched-len(closing))
	at := strings.Index(held[from:], closing)
	if at < 0 {
		if s.searched = len(held); s.searched > maxReasoning {
			return s.release()
		}
		return ""
	}
	end := from + at + len(closing)
	s.passing, s.trimming, s.reasoning = true, true, end
	s.held.Reset()
	return s.trim(held[end:])
}

// end returns what was held and is text after all, because the content has ended.
func (s *splitter) end() string {
	if s.passing {
		return ""
	}
	return s.release()
}

func (s *splitter) release() string {
	s.passing = true
	held := s.held.String()
	s.held.Reset()
	return held
}

func (s *splitter) trim(piece string) string {
	if !s.trimming {
		return piece
	}
	piece = strings.TrimLeft(piece, " \t\r\n")
	s.trimming = piece == ""
	return piece
}

// openingTag returns the name of the element that opens a content. If there is none,
// possible reports whether more of the content could show one.
func openingTag(content string) (name string, possible bool) {
	content = strings.TrimLeft(content, " \t\r\n")
	for _, tag := range reasoningTags {
		opening := "<" + tag + ">"
		if strings.HasPrefix(content, opening) {
			return tag, true
		}
		possible = possible || strings.HasPrefix(opening, content)
	}
	return "", possible
}
