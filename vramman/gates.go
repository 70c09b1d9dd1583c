package vramman

// This file is about the gates of the cards: who starts, stops, sleeps or wakes on
// one holds its gate, and nobody else does any of that meanwhile.

func (o *owner) hold(cards []string, who string) {
	for _, c := range cards {
		o.gates[c] = who
	}
}

// keepGates has instances that stop or fall asleep hold the gates of their cards
// that nobody else holds: victims whose load has ended, servers that died, and one
// that still stops where another has gone. Nobody starts beside memory that is
// being freed.
func (o *owner) keepGates() {
	for _, i := range o.instances {
		var who string
		switch i.word.state() {
		case StateStopping:
			who = "stop " + i.id
		case StateSleeping:
			who = "sleep " + i.id
		default:
			continue
		}
		for _, c := range i.cards {
			if o.gates[c] == "" {
				o.gates[c] = who
			}
		}
	}
}

func (o *owner) free(who string) {
	for c, h := range o.gates {
		if h == who {
			delete(o.gates, c)
		}
	}
}

func (o *owner) instance(id string) *Instance {
	for _, i := range o.instances {
		if i.id == id {
			return i
		}
	}
	return nil
}
