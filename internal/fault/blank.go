package fault

import "unicode"

// IsBlank reports whether text has no character that a reader can see. White space of every
// script is none, nor are control and format characters and fillers, such as U+200B and
// U+3164, which look like nothing and are copied from other programs.
func IsBlank(text string) bool {
	for _, r := range text {
		if !unicode.In(r, unicode.Z, unicode.White_Space, unicode.Cc, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) && r != braillePatternBlank {
			return false
		}
	}
	return true
}

// braillePatternBlank is a symbol to Unicode, and has no dots.
const braillePatternBlank = '\u2800'
