package config

import "time"

// LegacyInventory says how much is kept of who still uses legacy authentication.
type LegacyInventory struct {
	// Keeps nothing. The metric caddy_mfa_legacy_total counts all the same. Default: false.
	Off bool `json:"off,omitempty"`

	// For how long it is kept who was seen, after he was seen last, from 1d to 3650d. Default: 90d.
	Keep Duration `json:"keep,omitzero"`

	// Keeps user names that no directory knows as they were typed. Among them may be passwords, which people type into the
	// wrong field. Default: a mark stands for each.
	ShowUnknownNames bool `json:"show_unknown_names,omitempty"`
}

// Bounds and default of LegacyInventory.Keep.
const (
	DefaultLegacyReportKeep = 90 * 24 * time.Hour
	MinLegacyReportKeep     = Duration(24 * time.Hour)
	MaxLegacyReportKeep     = Duration(3650 * 24 * time.Hour)
)

func (r LegacyInventory) validate(ps *Problems) {
	if r.Off && (r.Keep != 0 || r.ShowUnknownNames) {
		ps.add("legacy_report.off", "the report of legacy authentication is off, and yet says what is kept; take one of the two out")
	}
	if keep := orDefault(r.Keep, DefaultLegacyReportKeep); keep < MinLegacyReportKeep || keep > MaxLegacyReportKeep {
		ps.add("legacy_report.keep", "who was seen is kept from %v to %v, not %v", MinLegacyReportKeep, MaxLegacyReportKeep, r.Keep)
	}
}
