package ingest

// Lane is that of a record, which differs from run to run.
func (h *Handle[R]) Lane(r R) int {
	var stored R
	return h.c.router.lane(&r, &stored)
}
