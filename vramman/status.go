package vramman

import "time"

// Status is a picture of the manager at one moment. Sizes are bytes.
type Status struct {
	Gateway   string           `json:"gateway"` // its name
	Time      time.Time        `json:"time"`
	Engine    string           `json:"engine"`    // "ready", or why not
	Inventory string           `json:"inventory"` // of the GPUs: "ready", or why they cannot be read
	Eviction  string           `json:"eviction"`  // the policy's name
	Models    []ModelStatus    `json:"models"`
	Instances []InstanceStatus `json:"instances"`
	GPUs      []GPUStatus      `json:"gpus"`
	Host      HostStatus       `json:"host"`
	Audit     AuditStatus      `json:"audit"`
	Decisions []DecisionStatus `json:"decisions"` // the newest last, 100 at most
}

// ModelStatus is one configured model.
type ModelStatus struct {
	Name     string     `json:"name"`
	Aliases  []string   `json:"aliases,omitempty"`
	Pool     string     `json:"pool"`
	State    string     `json:"state"`             // of its instance; "stopped" without one, "failed" while backing off
	Waiting  string     `json:"waiting,omitempty"` // what its start waits for, in words
	Failure  *Failure   `json:"failure,omitempty"`
	Queue    QueueState `json:"queue"`
	Need     int64      `json:"need_per_gpu,omitempty"` // as declared; 0: nothing was
	AlwaysOn bool       `json:"always_on,omitempty"`
	// Footprint is what it is given on each kind of card, as far as that was
	// worked out.
	Footprint []NeedStatus `json:"footprint,omitempty"`
	LastUsed  *time.Time   `json:"last_used,omitempty"`
}

// Failure is why a model is not being started at present.
type Failure struct {
	Class   string    `json:"class"`
	Message string    `json:"message"`
	Count   int       `json:"count"`          // in a row
	Until   time.Time `json:"until,omitzero"` // no start before
}

// InstanceStatus is one instance that is charged somewhere.
type InstanceStatus struct {
	ID       string     `json:"id"`
	Model    string     `json:"model"`
	State    string     `json:"state"`
	Stage    string     `json:"stage,omitempty"` // how far its start has come
	Since    time.Time  `json:"since"`           // in this state
	GPUs     []string   `json:"gpus,omitempty"`
	Declared int64      `json:"declared"`           // per GPU: what was reserved for it
	Source   string     `json:"source,omitempty"`   // where that comes from: declared, measured, estimated, …
	Charged  int64      `json:"charged"`            // per GPU: the larger of reserved and measured
	Measured int64      `json:"measured,omitempty"` // the largest on one of its GPUs
	Leases   int        `json:"leases"`
	LastUsed *time.Time `json:"last_used,omitempty"`
	Hash     string     `json:"launch_hash"`
}

// GPUStatus is one card.
type GPUStatus struct {
	UUID    string   `json:"uuid"`
	Name    string   `json:"name,omitempty"`
	Driver  string   `json:"driver,omitempty"` // its version
	Pool    string   `json:"pool,omitempty"`
	Note    string   `json:"note,omitempty"` // what is not known of it: "not measured…"
	Total   int64    `json:"total"`          // 0: not known, and neither are the budget, the charges and what is free
	Budget  int64    `json:"budget"`
	Charged int64    `json:"charged"`
	Foreign int64    `json:"foreign"`
	Free    int64    `json:"free"` // what could still be charged, never negative
	Used    int64    `json:"used"` // as last measured, by everybody
	Gate    string   `json:"gate,omitempty"`
	Holders []Holder `json:"holders,omitempty"`
}

// Holder is an instance's charge on one card.
type Holder struct {
	Instance string `json:"instance"`
	Charged  int64  `json:"charged"`
}

// DecisionStatus is one decision and its reason.
type DecisionStatus struct {
	Time     time.Time `json:"time"`
	Action   string    `json:"action"` // start, wake, evict, sleep, asleep, stop, drain, wait, refuse, adjust, replan, ready, failed, unreleased, gone
	Model    string    `json:"model"`
	Instance string    `json:"instance,omitempty"`
	GPUs     []string  `json:"gpus,omitempty"`
	Reason   string    `json:"reason"`
	// Cards is how the decision saw each card that the model may run on; empty for
	// what is about no choice of cards.
	Cards []CandidateStatus `json:"cards,omitempty"`
}
