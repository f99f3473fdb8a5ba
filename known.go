package mds

import (
	"iter"
	"maps"
)

// AsKnown joins the versions of each fact to one record, in which every value
// is that of the newest version that has one. The versions of a fact must
// follow each other in the sequence, oldest first, or newest first where
// descending is true. What [Selection.KnownAt] promises is made of this.
func AsKnown[R Record[R]](records iter.Seq2[R, error], descending bool) iter.Seq2[R, error] {
	schema := SchemaOf[R]()
	fact := schema.ByRole(Identity, Key, Time)
	return func(yield func(R, error) bool) {
		var joined R
		pending := false
		for record, err := range records {
			switch {
			case err != nil:
				yield(record, err)
				return
			case pending && Compare(fact, &joined, &record) == 0:
				if descending {
					schema.fillFrom(&joined, &record)
				} else {
					schema.fillFrom(&record, &joined)
					joined = record
				}
			case pending && !yield(joined, nil):
				return
			default:
				joined, pending = record, true
			}
		}
		if pending {
			yield(joined, nil)
		}
	}
}

// fillFrom gives a record the figures that it lacks and an older version has in
// the same unit. Texts, which describe the version, stay as they are.
func (s *Schema[R]) fillFrom(newer, older *R) {
	values := s.ByRole(Value)
	sameUnit := true
	for _, c := range values {
		switch {
		case !c.Unit, c.Missing(older):
		case c.Missing(newer):
			*c.Text(newer) = *c.Text(older)
		default:
			sameUnit = sameUnit && c.Equal(newer, older)
		}
	}
	for _, c := range values {
		switch {
		case c.Metrics != nil:
			all := maps.Clone(*c.Metrics(older))
			if all == nil {
				continue
			}
			maps.Copy(all, *c.Metrics(newer))
			*c.Metrics(newer) = all
		case !sameUnit, !c.Missing(newer):
		case c.OptFloat != nil:
			*c.OptFloat(newer) = *c.OptFloat(older)
		case c.OptInt != nil:
			*c.OptInt(newer) = *c.OptInt(older)
		}
	}
}
