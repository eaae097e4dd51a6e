package knowledge

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// variantList lists the characters that count as others, with a reason for each.
//
//go:embed variants.txt
var variantList string

// variantSet is the parsed variantList.
type variantSet struct {
	width      *strings.Replacer
	typography *strings.Replacer // quotes, apostrophes and ellipses
	dash       map[rune]rune
	stop       map[rune]bool
}

var variants = loadVariants()

func loadVariants() variantSet {
	set := variantSet{dash: map[rune]rune{}, stop: map[rune]bool{}}
	all, err := parseVariants(variantList)
	if err != nil {
		panic(err)
	}
	var width, typography []string
	for _, v := range all {
		switch v.kind {
		case "width", "kana":
			width = append(width, string(v.from), v.to)
		case "quote", "apostrophe", "ellipsis":
			typography = append(typography, string(v.from), v.to)
		case "dash":
			set.dash[v.from] = '-'
		case "stop":
			set.stop[v.from] = true
		case "blank": // foldBlanks knows white space from Unicode; a test compares
		default:
			panic("unknown kind of variant: " + v.kind)
		}
	}
	set.width, set.typography = strings.NewReplacer(width...), strings.NewReplacer(typography...)
	return set
}

// variant is a character that counts as another text.
type variant struct {
	kind string
	from rune
	to   string // "" for nothing
}

// parseVariants parses a list in the format that variants.txt describes.
func parseVariants(list string) ([]variant, error) {
	var all []variant
	for n, line := range strings.Split(list, "\n") {
		rule, reason, _ := strings.Cut(line, "#")
		fields := strings.Fields(rule)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 3 || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("line %d of the variants has no kind, character, meaning and reason", n+1)
		}
		lowText, highText, isRange := strings.Cut(fields[1], "..")
		if !isRange {
			highText = lowText
		}
		low, err := parseRune(lowText)
		if err != nil {
			return nil, fmt.Errorf("line %d of the variants: %w", n+1, err)
		}
		high, err := parseRune(highText)
		if err != nil {
			return nil, fmt.Errorf("line %d of the variants: %w", n+1, err)
		}
		for from := low; from <= high; from++ {
			v := variant{kind: fields[0], from: from}
			for _, f := range fields[2:] {
				if f == "-" {
					continue
				}
				to, err := parseRune(f)
				if err != nil {
					return nil, fmt.Errorf("line %d of the variants: %w", n+1, err)
				}
				v.to += string(to + from - low)
			}
			all = append(all, v)
		}
	}
	return all, nil
}

func parseRune(text string) (rune, error) {
	hex, ok := strings.CutPrefix(text, "U+")
	n, err := strconv.ParseUint(hex, 16, 21)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is no code point", text)
	}
	return rune(n), nil
}
