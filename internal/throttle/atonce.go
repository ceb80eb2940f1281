package throttle

// AtOnce bounds how many do something at the same time. The zero AtOnce lets nobody in.
type AtOnce struct{ places chan struct{} }

// NewAtOnce lets at most n in.
func NewAtOnce(n int) *AtOnce { return &AtOnce{make(chan struct{}, n)} }

// Enter takes a place without waiting for one, and says whether there was one. Who has entered must Leave.
func (a *AtOnce) Enter() bool {
	select {
	case a.places <- struct{}{}:
		return true
	default:
		return false
	}
}

// Leave gives the place back.
func (a *AtOnce) Leave() { <-a.places }
