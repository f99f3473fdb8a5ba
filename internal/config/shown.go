package config

// Shown is a setting in force, as it may be shown.
type Shown struct {
	// Key is its section and name in the file, such as serve.listen.
	Key string
	// Value is as the environment has it; of a secret it is what is left without that. ""
	// is not set.
	Value string
	// From is where it was set: the file and its line, the variable or the flag, or "default".
	From string
	// Secret says that something of the value is not shown.
	Secret bool
}

// Shown lists the settings in force, section by section, without secrets.
func (s *Settings) Shown() []Shown {
	list := make([]Shown, len(s.table))
	for i := range s.table {
		row, v := &s.table[i], s.values[i]
		list[i] = Shown{Key: row.Key, Value: v.text, From: s.from(i)}
		if row.Secret && v.text != "" {
			list[i].Value = s.shown(row, v.text)
			list[i].Secret = list[i].Value != v.text
		}
	}
	return list
}
