package vramman

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// codeOf is the code of an error of the manager's, or empty.
func codeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// served has a model remember how long it takes to serve a request.
func served(t *testing.T, m *Model, held time.Duration) {
	t.Helper()
	var ticket Ticket
	now := time.Now()
	if err := m.Admit(t.Context(), now, &ticket); err != nil {
		t.Fatal(err)
	}
	ticket.Return(now.Add(held))
}

func TestDeadlineThatCannotBeMetIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := readyModel(1)
		served(t, m, 10*time.Second)
		admitted, leave := make(chan string, 10), make(chan struct{})
		occupy(t, m, 3, Request{}, admitted, leave) // one is served, two wait: the third would wait 30 s
		for timeout, want := range map[time.Duration]Code{
			29 * time.Second: CodeUnreachable,
			31 * time.Second: CodeDeadline, // it waits, and nobody leaves
		} {
			began := time.Now()
			ticket := Ticket{Request: Request{Deadline: began.Add(timeout)}}
			err := m.Admit(t.Context(), began, &ticket)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Code != want || !e.NoRetry {
				t.Errorf("a deadline in %v: %v", timeout, err)
			}
			if waited := time.Since(began); want == CodeUnreachable && waited != 0 || want == CodeDeadline && waited != timeout {
				t.Errorf("a deadline in %v was told after %v", timeout, waited)
			}
		}
		for range 3 {
			leave <- struct{}{}
		}
	})
}

func TestDeadlineCountsTheLoad(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name    string
		prepare func(m *Model)
		want    Code
	}{
		{"ready", func(*Model) {}, ""},
		{"nothing known", func(m *Model) { m.ready.Store(nil) }, ""},
		{"loads, ready soon", func(m *Model) {
			m.ready.Store(nil)
			m.loadTime.Store(int64(time.Hour))
			m.readyAt.Store(now.Add(5 * time.Second).UnixNano())
		}, ""},
		{"loads, ready late", func(m *Model) {
			m.ready.Store(nil)
			m.readyAt.Store(now.Add(15 * time.Second).UnixNano())
		}, CodeUnreachable},
		{"stopped", func(m *Model) {
			m.ready.Store(nil)
			m.loadTime.Store(int64(time.Minute))
		}, CodeUnreachable},
	} {
		m := readyModel(1)
		c.prepare(m)
		ticket := Ticket{Request: Request{Deadline: now.Add(10 * time.Second)}}
		if err := m.Admit(t.Context(), now, &ticket); codeOf(err) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
		ticket.Return(now)
		if q := m.Queue(); q.Serving != 0 {
			t.Errorf("%s: a slot leaks", c.name)
		}
	}
}

func TestQueueTimeoutSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := readyModel(1)
		served(t, m, 7*time.Second)
		admitted, leave := make(chan string, 1), make(chan struct{})
		occupy(t, m, 1, Request{}, admitted, leave)
		var ticket Ticket
		err := m.Admit(t.Context(), time.Now(), &ticket)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != CodeQueueTimeout || e.RetryAfter != 7*time.Second || e.NoRetry {
			t.Errorf("%v, %+v", err, e)
		}
		if ticket.Queued() != time.Minute || ticket.Position() != 1 {
			t.Errorf("it waited %v, from position %d", ticket.Queued(), ticket.Position())
		}
		leave <- struct{}{}
	})
}

func TestPlaceLostToAClientWithFewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := readyModel(1)
		m.setLimits(1, 2)
		admitted, leave := make(chan string, 10), make(chan struct{})
		occupy(t, m, 2, Request{Client: "hog"}, admitted, leave)
		told := make(chan error, 1)
		go func() {
			told <- m.Admit(t.Context(), time.Now(), &Ticket{Request: Request{Client: "hog"}})
		}()
		synctest.Wait()
		occupy(t, m, 1, Request{Client: "other"}, admitted, leave)
		if err := <-told; codeOf(err) != CodeQueueFull {
			t.Errorf("who lost its place is told %v", err)
		}
		for range 3 {
			leave <- struct{}{}
		}
		synctest.Wait()
		if q := m.Queue(); q.Serving != 0 || q.Depth != 0 || q.Refused != 1 {
			t.Errorf("the queue is %+v", q)
		}
	})
}

func TestWhoWaitsIsToldHowThingsStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := readyModel(1)
		admitted, leave := make(chan string, 10), make(chan struct{})
		occupy(t, m, 2, Request{}, admitted, leave)
		var told []Progress
		ticket := Ticket{Request: Request{NotifyEvery: 15 * time.Second, Notify: func(p Progress) { told = append(told, p) }}}
		done := make(chan error, 1)
		go func() { done <- m.Admit(t.Context(), time.Now(), &ticket) }()
		time.Sleep(20 * time.Second)
		stage := waitingForRoom
		m.stage.Store(&stage)
		leave <- struct{}{}
		time.Sleep(15 * time.Second)
		leave <- struct{}{}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		want := []Progress{{Position: 2}, {Position: 1, Stage: "waiting for room"}}
		if len(told) != 2 || told[0] != want[0] || told[1] != want[1] {
			t.Errorf("it was told %+v", told)
		}
		ticket.Return(time.Now())
	})
}

// The waits for a turn and for the model are one: nobody is left without word for
// longer because one ends and the other begins.
func TestWordComesInTimeAcrossWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := readyModel(1)
		m.maxWait.Store(int64(50 * time.Second))
		var told []time.Duration
		began := time.Now()
		ticket := Ticket{Request: Request{NotifyEvery: 15 * time.Second, Notify: func(Progress) { told = append(told, time.Since(began)) }}}
		admitted, leave := make(chan string, 1), make(chan struct{})
		occupy(t, m, 1, Request{}, admitted, leave)
		time.AfterFunc(10*time.Second, func() { leave <- struct{}{} })
		if err := m.Admit(t.Context(), began, &ticket); err != nil {
			t.Fatal(err)
		}
		never := make(chan int)
		if _, err := await(t.Context(), m, &ticket, time.Now(), never); codeOf(err) != CodeQueueTimeout {
			t.Error(err)
		}
		if len(told) != 3 || told[0] != 15*time.Second || told[1] != 30*time.Second || told[2] != 45*time.Second {
			t.Errorf("word came after %v", told)
		}
		ticket.Return(time.Now())
	})
}

// What was served is charged: who got long answers waits behind who got none.
func TestServiceIsCharged(t *testing.T) {
	for name, charge := range map[string]func(*Ticket){
		"events": func(t *Ticket) { t.Served(2000) },
		"usage":  func(t *Ticket) { t.Used(10, 2000) },
		"both":   func(t *Ticket) { t.Served(3000); t.Used(10, 2000) },
	} {
		synctest.Test(t, func(t *testing.T) {
			m := readyModel(2)
			greedy, modest := Ticket{Request: Request{Client: "greedy", Cost: 10}}, Ticket{Request: Request{Client: "modest", Cost: 10}}
			for _, ticket := range []*Ticket{&greedy, &modest} {
				if err := m.Admit(t.Context(), time.Now(), ticket); err != nil {
					t.Fatal(err)
				}
			}
			leave, order := make(chan struct{}), make(chan string, 10)
			for range 3 {
				for _, client := range []string{"greedy", "modest"} {
					go func() {
						ticket := Ticket{Request: Request{Client: client, Cost: 10}}
						_ = m.Admit(context.Background(), time.Now(), &ticket)
						order <- client
						<-leave
						ticket.Return(time.Now())
					}()
					synctest.Wait()
				}
			}
			charge(&greedy)
			greedy.Return(time.Now())
			modest.Return(time.Now())
			got := ""
			for range 6 {
				synctest.Wait()
				got += <-order + " "
				leave <- struct{}{}
			}
			if want := "modest modest modest greedy greedy greedy "; got != want {
				t.Errorf("%s: the order is %s", name, got)
			}
		})
	}
}

// A server that counts nonsense neither ruins a client nor gives it credit.
func TestUsageIsBelievedWithinReason(t *testing.T) {
	m := readyModel(1)
	for range 3 {
		ticket := Ticket{Request: Request{Client: "a", Cost: 100}}
		if err := m.Admit(t.Context(), time.Now(), &ticket); err != nil {
			t.Fatal(err)
		}
		ticket.Used(-1<<62, 1<<62)
		ticket.Return(time.Now())
		if ticket.charged < 0 || ticket.charged > 3*maxUsage {
			t.Errorf("%d are charged", ticket.charged)
		}
	}
}
