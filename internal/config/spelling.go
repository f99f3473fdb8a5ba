package config

import (
	"slices"
	"strings"
)

// nearest is the name that is most like a misspelled one, "" where none is like it.
func nearest(misspelled string, names []string) string {
	slices.Sort(names)
	best, least := "", 1+len(misspelled)/4
	for _, name := range names {
		if d := distance(misspelled, name); d <= least && (best == "" || d < least) {
			best, least = name, d
		}
	}
	if best != "" {
		return best
	}
	// In another section it may be spelled right.
	_, last := cutLast(misspelled)
	for _, name := range names {
		if _, end := cutLast(name); strings.EqualFold(end, last) {
			return name
		}
	}
	return ""
}

// distance is how many letters are to be added, taken away or changed (Levenshtein) to
// get from one word to another.
func distance(from, to string) int {
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(from) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(to) {
			change := diagonal
			if from[i] != to[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(to)]
}
