package mds

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// AsKnown joins the versions of each fact to one record, in which every value
// is that of the newest version that has one. The versions of a fact must
// follow each other in the sequence, oldest first, or newest first where
// descending is true. What [Selection.KnownAt] promises is made of this.
func AsKnown[R Record[R]](records iter.Seq2[R, error], descending bool) iter.Seq2[R, error] {
	schema := SchemaOf[R]()
	fact := schema.ByRole(Identity, Key, Time)
	return func(yield func(R, error) bool) {
		var versions []R
		for record, err := range records {
			if err != nil {
				yield(record, err)
				return
			}
			if len(versions) > 0 && Compare(fact, &versions[0], &record) != 0 {
				if !yield(schema.join(versions, descending), nil) {
					return
				}
				versions = versions[:0]
			}
			versions = append(versions, record)
		}
		if len(versions) > 0 {
			yield(schema.join(versions, descending), nil)
		}
	}
}

// join makes one record of the versions of a fact.
func (s *Schema[R]) join(versions []R, descending bool) R {
	if !descending {
		slices.Reverse(versions)
	}
	joined := versions[0]
	for _, c := range s.ByRole(Value) {
		for i := 0; c.Unit && i < len(versions) && c.Missing(&joined); i++ {
			*c.Text(&joined) = *c.Text(&versions[i])
		}
	}
	for i := range versions[1:] {
		s.fillFrom(&joined, &versions[i+1])
	}
	return joined
}

// fillFrom gives a record the figures that it lacks and an older version has in
// the same unit, which is that of the newest version that says one. Of metrics,
// those whose names hold their unit ("tag/unit") are taken in any case. Texts,
// which describe the version, stay as they are.
func (s *Schema[R]) fillFrom(joined, older *R) {
	values := s.ByRole(Value)
	sameUnit := !slices.ContainsFunc(values, func(c *Column[R]) bool {
		return c.Unit && !c.Missing(older) && !c.Equal(joined, older)
	})
	for _, c := range values {
		switch {
		case c.Metrics != nil:
			all := make(map[string]float64)
			for name, v := range *c.Metrics(older) {
				if sameUnit || strings.Contains(name, "/") {
					all[name] = v
				}
			}
			maps.Copy(all, *c.Metrics(joined))
			if len(all) > 0 {
				*c.Metrics(joined) = all
			}
		case !sameUnit, !c.Missing(joined):
		case c.OptFloat != nil:
			*c.OptFloat(joined) = *c.OptFloat(older)
		case c.OptInt != nil:
			*c.OptInt(joined) = *c.OptInt(older)
		}
	}
}

// Limited ends a sequence after some records; 0 or less means that none does.
func Limited[R any](records iter.Seq2[R, error], limit int) iter.Seq2[R, error] {
	if limit <= 0 {
		return records
	}
	return func(yield func(R, error) bool) {
		left := limit
		for record, err := range records {
			left--
			if !yield(record, err) || left == 0 {
				return
			}
		}
	}
}
