package scheduler_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// order fails unless the models are ever less likely.
func order(t *testing.T, u *scheduler.Usage, models ...string) {
	t.Helper()
	for n := range models[1:] {
		if a, b := u.Likelihood(models[n]), u.Likelihood(models[n+1]); !(a > b) {
			t.Errorf("%s is likely by %g, %s by %g", models[n], a, models[n+1], b)
		}
	}
}

func TestUsageLearnsHowOften(t *testing.T) {
	var u scheduler.Usage
	if got := u.Likelihood("a"); got != 0 {
		t.Errorf("likely by %g before anything was used", got)
	}
	now := start
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		now = now.Add(10 * time.Minute)
		switch n := rng.IntN(10); {
		case n == 9:
			u.Used("seldom", now)
		case n >= 6:
			u.Used("now and then", now)
		default:
			u.Used("often", now)
		}
	}
	order(t, &u, "often", "now and then", "seldom", "never")
	if often := u.Likelihood("often"); often < 0.4 || often > 0.8 {
		t.Errorf("six uses of ten are likely by %g", often)
	}
	sum := u.Likelihood("often") + u.Likelihood("now and then") + u.Likelihood("seldom")
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("some model is next by %g", sum)
	}
}

func TestUsageAges(t *testing.T) {
	var u scheduler.Usage
	now := start
	use := func(model string, times int) {
		for range times {
			now = now.Add(5 * time.Minute)
			u.Used(model, now)
		}
	}
	use("old", 500)
	use("new", 100)
	order(t, &u, "new", "old")
}

// Where models come in bursts, the one in the midst of its burst is the likely
// one, though others were used more often; where they come evenly, they are
// likely as often as they come, whoever came last.
func TestUsageLearnsHowLongToRemember(t *testing.T) {
	play := func(next func(n int) string) *scheduler.Usage {
		u, now := new(scheduler.Usage), start
		for n := range 1200 {
			now = now.Add(2 * time.Minute)
			u.Used(next(n), now)
		}
		return u
	}
	bursts := play(func(n int) string { return fmt.Sprintf("m%d", n/30%10) })
	rng := rand.New(rand.NewPCG(1, 1))
	evenly := play(func(n int) string {
		if n >= 1190 {
			return "m9"
		}
		return fmt.Sprintf("m%d", rng.IntN(10))
	})
	if b, e := bursts.Likelihood("m9"), evenly.Likelihood("m9"); b < 0.7 || e > 0.5 {
		t.Errorf("used last, it is likely by %g after bursts and by %g after even traffic", b, e)
	}
}

func TestUsesWithinAMinuteCountOnce(t *testing.T) {
	var one, many scheduler.Usage
	for _, u := range []*scheduler.Usage{&one, &many} {
		u.Used("other", start)
		u.Used("a", start)
	}
	for s := range 59 {
		many.Used("a", start.Add(time.Duration(s)*time.Second))
	}
	if one.Likelihood("a") != many.Likelihood("a") {
		t.Errorf("likely by %g, asked for sixty times by %g", one.Likelihood("a"), many.Likelihood("a"))
	}
	many.Used("a", start.Add(time.Minute))
	if one.Likelihood("a") >= many.Likelihood("a") {
		t.Error("the next minute does not count")
	}
}

// Time that runs backwards, and models that come and go, leave figures that are
// numbers, and nothing is kept for ever.
func TestUsageOfStrangeTimes(t *testing.T) {
	var u scheduler.Usage
	rng := rand.New(rand.NewPCG(2, 2))
	for n := range 3000 {
		name := fmt.Sprintf("m%d", rng.IntN(20))
		u.Used(name, start.Add(time.Duration(rng.Int64N(1<<uint(1+n%62)))-time.Duration(rng.Int64N(1<<uint(1+n%61)))))
		u.Loaded(name, time.Duration(rng.IntN(100))*time.Second)
		if l := u.Likelihood(name); !(l >= 0 && l <= 1) {
			t.Fatalf("use %d is likely by %g", n, l)
		}
	}
}

func TestUsageForgetsNames(t *testing.T) {
	var u scheduler.Usage
	const day = 24 * time.Hour
	u.Used("old", start)
	u.Loaded("old", time.Minute)
	u.Used("other", start.Add(7*day))
	if got := u.LoadTime("old"); got != time.Minute {
		t.Errorf("after a week it loads in %v", got)
	}
	u.Used("other", start.Add(40*day))
	u.Used("new", start.Add(40*day))
	if got := u.LoadTime("old"); got != 0 {
		t.Errorf("after forty days it is known to load in %v", got)
	}
}

func TestLoadTimeFollows(t *testing.T) {
	var u scheduler.Usage
	if got := u.LoadTime("a"); got != 0 {
		t.Errorf("never loaded, and in %v", got)
	}
	for _, c := range []struct{ took, want time.Duration }{{80, 80}, {40, 60}, {40, 50}, {40, 45}} {
		u.Loaded("a", c.took*time.Second)
		if got := u.LoadTime("a"); got != c.want*time.Second {
			t.Errorf("after a load of %d s it is %v, want %d s", c.took, got, c.want)
		}
	}
}
