package fulltext

import "strings"

// stopwords are frequent words that say nothing about the subject of a question.
var stopwords = func() map[string]bool {
	all := make(map[string]bool)
	for _, w := range strings.Fields(`a an the and or but if of to in on at by for from with as is are was were be been being am
		do does did done have has had can could will would shall should may might must i me my we us our you your he him his she her
		it its they them their this that these those there here what which who whom whose when where why how not no any some so than
		then too very just about into over after before s t`) {
		all[w] = true
	}
	return all
}()

// IsStopword reports whether a folded word says nothing about the subject, so that a
// search by words can ignore it. It knows English: in other languages such words are
// recognized by how many entries have them.
func IsStopword(word string) bool { return stopwords[word] }
