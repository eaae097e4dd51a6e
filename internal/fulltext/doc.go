// Package fulltext turns texts into the terms of the full-text index, and defines the
// SQL functions with which the triggers of the database index a text.
//
// A text has words and parts. Words are found as a whole: the words of scripts that are
// written with blanks, folded and, in English and Arabic, stemmed. Parts find what is not
// a word of its own:
//
//   - In Chinese, Japanese and Korean, characters and pairs of consecutive characters.
//     Korean has blanks, but attaches particles and joins nouns.
//   - In scripts without blanks whose letters carry marks, such as Thai, Khmer and Burmese,
//     clusters (a letter with its marks) and pairs of them.
//   - In all other scripts, runs of three or four letters inside words, which find the
//     parts of compounds and inflected words: Frist in Kündigungsfrist, talo in talossa.
//
// The terms depend on the script alone. The language of a short question is not known,
// and a dictionary does not have the names of products. Two segmenters were tried:
// github.com/rivo/uniseg v0.4.7 follows UAX #29, which leaves Thai and Japanese whole,
// and github.com/ikawaha/kagome/v2 needs a dictionary of 12 MB for one language.
//
// Whoever changes the terms adds a migration that builds the index anew.
package fulltext
