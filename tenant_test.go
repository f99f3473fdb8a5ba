package mds_test

import (
	"strings"
	"testing"

	"github.com/marketdatastore/mds"
)

// The ids are those of Python's uuid.uuid5(uuid.NAMESPACE_URL,
// "https://github.com/marketdatastore/mds/tenant/" + slug).
func TestTenantIDs(t *testing.T) {
	for slug, id := range map[string]string{
		"default": "170955cd-45b1-5e79-a214-43560e6e8b6c",
		"acme":    "f887cc6f-cbc8-54bc-9924-c9052b1c1b07",
	} {
		tenant, err := mds.NewTenant(slug)
		if err != nil || tenant.ID != id || tenant.Slug != slug {
			t.Errorf("%s: %+v, %v; want id %s", slug, tenant, err, id)
		}
	}
	if tenant, err := mds.NewTenant("default"); err != nil || tenant != mds.DefaultTenant() {
		t.Errorf("the default tenant is %+v", mds.DefaultTenant())
	}
}

func TestTenantSlugs(t *testing.T) {
	for _, slug := range []string{"a", "7", "desk-1", "team_x", strings.Repeat("x", 63)} {
		if _, err := mds.NewTenant(slug); err != nil {
			t.Error(err)
		}
	}
	for _, slug := range []string{"", "A", "-a", "_a", "a.b", "a/b", "..", "é", "170955cd-45b1-5e79-a214-43560e6e8b6c", strings.Repeat("x", 64)} {
		if tenant, err := mds.NewTenant(slug); err == nil {
			t.Errorf("%q became %+v", slug, tenant)
		}
	}
}
