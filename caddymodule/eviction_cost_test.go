// This file tests the eviction module "cost".

package caddymodule

import (
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

func TestEvictionCost(t *testing.T) {
	if got := specOf(t, "eviction cost").Eviction; got != (scheduler.Cost{}) {
		t.Errorf("the Caddyfile makes policy %s", got.Name())
	}
	config := quietConfig(`{` + guests + `, "eviction": {"policy": "cost"}}`)
	if got := provision(t, config).Generation().Spec().Eviction; got != (scheduler.Cost{}) {
		t.Errorf("the JSON makes policy %s", got.Name())
	}
}
