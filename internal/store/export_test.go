package store

// Kept counts the records in memory, expired ones included.
func (m *Memory) Kept() (records, partitions, queued int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, p := range m.partitions {
		records += len(p)
	}
	return records, len(m.partitions), len(m.expiries)
}
