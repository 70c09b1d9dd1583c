package vramman

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

func findings(t *testing.T, m *Manager, kind FindingKind) (found []Finding) {
	t.Helper()
	for _, f := range mustStatus(t, m).Audit.Findings {
		if f.Kind == kind {
			found = append(found, f)
		}
	}
	return found
}

// What an instance uses beyond its charge is charged, told of, and counted once.
func TestAuditChargesWhatIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		m, g := r.open(t, r.spec(rigModel("a", 8)))
		mustHold(t, g, "a")()
		r.mu.Lock()
		r.running[0].more = worldGiB
		r.mu.Unlock()
		time.Sleep(time.Minute)
		s := mustStatus(t, m)
		if c := s.Instances[0].Charged; c != 9*worldGiB {
			t.Errorf("it uses 9 GiB and is charged %d", c)
		}
		f := findings(t, m, FindingUnderCharged)
		if len(f) != 1 || f[0].Bytes != worldGiB || !strings.Contains(f[0].Text, "a-1 uses 9.0 GiB of GPU-0 and was charged 8.0 GiB") {
			t.Errorf("found %+v", f)
		}
		if n := s.Audit.Drift[FindingUnderCharged]; n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}

// Without a configuration there are no budgets, which is no finding: what runs is
// about to end, one after the other.
func TestAuditWithoutConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		spec := r.spec(rigModel("a", 4), rigModel("b", 4))
		m, g := r.open(t, spec)
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		m.Withdraw(g)
		time.Sleep(time.Minute)
		g2 := NewGeneration(spec)
		m.Apply(g2)
		m.Commit(g2)
		if n := mustStatus(t, m).Audit.Drift[FindingOverdrawn]; n != 0 || r.count("stop") != 2 {
			t.Errorf("found %d times; %v", n, r.counts())
		}
	})
}

// Other programs that take what is charged are named, and idle models yield.
func TestAuditNamesAnOverdrawnCard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		m, g := r.open(t, r.spec(rigModel("a", 8)))
		release := mustHold(t, g, "a")
		r.mu.Lock()
		r.foreign["GPU-0"] = 10 * worldGiB
		r.mu.Unlock()
		time.Sleep(time.Minute)
		f := findings(t, m, FindingOverdrawn)
		if len(f) != 1 || f[0].Bytes != 2*worldGiB || f[0].GPU != "GPU-0" {
			t.Errorf("found %+v", f)
		}
		release()
		r.mu.Lock()
		r.foreign["GPU-0"] = 0
		r.mu.Unlock()
		time.Sleep(time.Minute)
		if f := findings(t, m, FindingOverdrawn); len(f) != 0 {
			t.Errorf("it is over, and still %+v", f)
		}
	})
}

// What the engine runs and nobody knows is removed, once it was listed twice.
func TestAuditRemovesWhatNobodyKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		m, g := r.open(t, r.spec(rigModel("a", 8)))
		mustHold(t, g, "a")()
		r.mu.Lock()
		r.strays = []string{"stray-7"}
		r.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if n := r.count("discard stray-7"); n != 1 {
			t.Errorf("removed %d times", n)
		}
		if n := mustStatus(t, m).Audit.Drift[FindingUnknown]; n != 1 {
			t.Errorf("counted %d times", n)
		}
		if r.count("stop") != 0 || r.count("running") != 1 {
			t.Error("it has cost a healthy instance")
		}
	})
}

// An instance whose end nobody told of is found missing, and started again when it
// is asked for.
func TestAuditMissesWhatTheEngineLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		m, g := r.open(t, r.spec(rigModel("a", 8)))
		mustHold(t, g, "a")()
		r.mu.Lock()
		lost := r.running[0]
		r.running = nil // gone without a word
		r.mu.Unlock()
		time.Sleep(2 * time.Minute)
		s := mustStatus(t, m)
		if len(s.Instances) != 0 || s.Audit.Drift[FindingLost] != 1 {
			t.Errorf("it still counts as running: %+v, %v", s.Instances, s.Audit.Drift)
		}
		mustHold(t, g, "a")()
		if r.count("start a") != 2 {
			t.Errorf("%d starts", r.count("start a"))
		}
		lost.end(lost.exit)
	})
}

// A process that outlives its server is named, and what it holds stays charged.
func TestAuditNamesWhatOutlivesItsServer(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 8)))
	s.openAll()
	l := s.run(g, "a")
	i := l.instance
	i.pids[77] = true
	s.cards[0].Used = 5 * worldGiB
	s.cards[0].Processes = append(s.cards[0].Processes, process77)
	l.Release(s.now)
	s.tell(exitedEvent{i: i})
	s.read()
	s.o.wantReading()
	s.read()
	k := slices.IndexFunc(s.o.audit.findings, func(f Finding) bool { return f.Kind == FindingOutlived })
	if k < 0 {
		t.Fatalf("found %+v", s.o.audit.findings)
	}
	if text := s.o.audit.findings[k].Text; !strings.Contains(text, "process 77 still holds 5.0 GiB of GPU-0") {
		t.Errorf("it says %q", text)
	}
	if c := s.o.ledger.Charged("GPU-0"); c != 8*worldGiB {
		t.Errorf("charged %d", c)
	}
	s.cards[0].Used, s.cards[0].Processes = 0, nil
	s.o.wantReading()
	s.read()
	if len(s.o.audit.findings) != 0 || s.o.ledger.Charged("GPU-0") != 0 {
		t.Errorf("it is gone, and still %+v, charged %d", s.o.audit.findings, s.o.ledger.Charged("GPU-0"))
	}
}

// A reading that began while the server lived says nothing of what outlives it.
func TestAuditHeedsWhenAReadingBegan(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 8)))
	s.openAll()
	l := s.run(g, "a")
	l.instance.pids[77] = true
	s.cards[0].Used = 5 * worldGiB
	s.cards[0].Processes = append(s.cards[0].Processes, process77)
	l.Release(s.now)
	s.o.wantReading()
	s.tell(exitedEvent{i: l.instance})
	early := s.reads[0]
	s.reads = s.reads[1:]
	early.cards = append(early.cards, s.cards...)
	s.tell(early)
	if n := s.o.audit.drift[FindingOutlived]; n != 0 {
		t.Errorf("found %+v", s.o.audit.findings)
	}
	s.read()
	if n := s.o.audit.drift[FindingOutlived]; n != 1 {
		t.Errorf("then found %+v", s.o.audit.findings)
	}
}

var process77 = gpu.Process{PID: 77, Used: 5 * worldGiB}

// What makes a list due after all deadlines were looked at is asked for in the same
// event: to be woken for what is past is to be woken at once, for nothing.
func TestAListIsAskedForAtOnce(t *testing.T) {
	s := newScript(t, 16)
	on := scriptModel("on", 8)
	on.AlwaysOn = true
	g := s.load(scriptSpec(on, scriptModel("a", 12)))
	s.tell(engineEvent{handle: s.engines[0], engine: worldEngine{}})
	s.engines = nil
	s.openAll()
	s.fetchAll()
	s.read()
	for range 3 {
		s.tell(listedEvent{handle: s.o.engines[0]})
		s.after(2 * listAgain)
		s.read()
	}
	s.ask(g, "a")
	s.fetchAll() // refused, and what was made for it is gone
	if w := s.wake; !w.After(s.now) {
		t.Errorf("the owner wants to be woken %v ago", s.now.Sub(w))
	}
}

// An engine that does not list what runs, twice in a row, is believed; but what it
// forgot may live, and is stopped lest it runs, and holds its memory, for ever.
func TestWhatTheEngineForgotIsStopped(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 8)))
	s.tell(engineEvent{handle: s.engines[0], engine: worldEngine{}})
	s.engines = nil
	s.openAll()
	l := s.run(g, "a")
	l.Release(s.now)
	s.cards[0].Used, s.cards[0].Processes = 5*worldGiB, append(s.cards[0].Processes, process77)
	l.instance.pids[77] = true
	for range 4 {
		s.tell(listedEvent{handle: s.o.engines[0], number: s.o.audit.lists})
		s.after(2 * listAgain)
		s.read()
	}
	s.after(releaseTimeout)
	if len(s.stops) != 1 {
		t.Errorf("%d stops; it is %v", len(s.stops), l.instance.word.state())
	}
}
