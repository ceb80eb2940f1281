package redis

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Advise implements store.Adviser. What it may not ask CONFIG, it takes from INFO; what neither tells, it says nothing about.
func (s *Store) Advise(ctx context.Context) ([]string, error) {
	settings := make(map[string]string)
	err := s.read(ctx, func(ctx context.Context, c *redis.Client) error {
		for _, name := range []string{"save", "appendonly", "appendfsync", "maxmemory", "maxmemory-policy"} {
			answers, err := c.ConfigGet(ctx, name).Result()
			if answer(err) {
				return s.adviseFromInfo(ctx, c, settings)
			}
			if err != nil {
				return err
			}
			if value, ok := answers[name]; ok {
				settings[name] = value
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return advice(settings), nil
}

// adviseFromInfo fills in what INFO says of the settings. It doesn't say when snapshots are made.
func (s *Store) adviseFromInfo(ctx context.Context, c *redis.Client, settings map[string]string) error {
	for _, section := range []string{"persistence", "memory"} {
		info, err := c.Info(ctx, section).Result()
		if answer(err) {
			continue
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(info) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch name {
			case "aof_enabled":
				settings["appendonly"] = map[string]string{"0": "no", "1": "yes"}[value]
			case "maxmemory":
				settings["maxmemory"] = value
			case "maxmemory_policy":
				settings["maxmemory-policy"] = value
			}
		}
	}
	return nil
}

// advice is what to change in settings, of which some may be unknown.
func advice(settings map[string]string) []string {
	var all []string
	save, saveKnown := settings["save"]
	switch {
	case settings["appendonly"] == "yes" && settings["appendfsync"] == "no":
		all = append(all, "Redis leaves it to the operating system when its log reaches the disk, so a power failure can lose what was written in the last half a minute or so: set appendfsync to everysec or always.")
	case settings["appendonly"] == "no" && saveKnown && save == "":
		all = append(all, "Redis keeps nothing on disk, so a restart loses every registration and session: set appendonly to yes.")
	case settings["appendonly"] == "no":
		all = append(all, "Redis keeps no log on disk, so a restart loses what was written since its last snapshot, if it makes any: set appendonly to yes.")
	}
	switch policy, limit := settings["maxmemory-policy"], settings["maxmemory"]; {
	case policy == "" || policy == "noeviction":
	case limit != "" && limit != "0":
		all = append(all, "Redis removes data when its memory is full (maxmemory-policy "+policy+"), registrations and locks among it: set maxmemory-policy to noeviction.")
	default:
		all = append(all, "Redis would remove data, registrations and locks among it, as soon as maxmemory is set (maxmemory-policy "+policy+"): set maxmemory-policy to noeviction.")
	}
	return all
}
