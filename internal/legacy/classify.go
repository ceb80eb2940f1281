package legacy

// Classify is Inspect where only the values of the Authorization header are known. A class that is only reported is None.
func Classify(values []string) Class {
	var f Finding
	f.carry(values)
	if f.Scheme.Reported() {
		return None
	}
	return f.Scheme
}
