package vramman

import "time"

// This file owns what people are shown of plans and of the audit. Sizes are bytes.

// PlanStatus is what would happen if a model were asked for now.
type PlanStatus struct {
	Model   string            `json:"model"`
	Verdict string            `json:"verdict"` // "ready", "start", "wake", "wait", "refuse", "loading"
	Reason  string            `json:"reason"`
	Need    []NeedStatus      `json:"need"`
	Cards   []CandidateStatus `json:"cards"`
	Victims []VictimStatus    `json:"victims,omitempty"`
}

// NeedStatus is what a model is given on one kind of card.
type NeedStatus struct {
	Card   string `json:"card"`   // the kind's name
	Degree int    `json:"degree"` // on how many such cards at once
	Bytes  int64  `json:"bytes"`  // on each
	Source string `json:"source"` // declared, measured, estimated, share of the card, whole card
	Parts  string `json:"parts,omitempty"`
	Note   string `json:"note,omitempty"` // why it was not estimated
}

// CandidateStatus is one card as a decision saw it.
type CandidateStatus struct {
	GPU     string   `json:"gpu"`
	Need    int64    `json:"need"`
	Room    int64    `json:"room"` // what could still be charged; negative: overdrawn
	Budget  int64    `json:"budget"`
	Charged int64    `json:"charged"`
	Foreign int64    `json:"foreign"`
	Total   int64    `json:"total"`
	Holders []Holder `json:"holders,omitempty"`
	Chosen  bool     `json:"chosen"`
	Verdict string   `json:"verdict"` // why it was chosen, or was not
}

// VictimStatus is an instance that makes room.
type VictimStatus struct {
	Instance string `json:"instance"`
	Action   string `json:"action"` // sleep, stop
}

// AuditStatus is what the audit has found: where the ledger, the cards and the
// engine differ.
type AuditStatus struct {
	Time     time.Time             `json:"time"` // of the last
	Findings []Finding             `json:"findings"`
	Drift    map[FindingKind]int64 `json:"drift"` // how many were found since the process began
}

// Finding is one difference.
type Finding struct {
	Kind     FindingKind `json:"kind"`
	GPU      string      `json:"gpu,omitempty"`
	Instance string      `json:"instance,omitempty"`
	Bytes    int64       `json:"bytes,omitempty"`
	Text     string      `json:"text"`
}

// HostStatus is the host's memory, as far as sleeping instances take it.
type HostStatus struct {
	Total     int64 `json:"total"` // 0: not known, and nobody is put to sleep
	Available int64 `json:"available"`
	Asleep    int64 `json:"asleep"` // what sleeping instances are counted with
	Room      int64 `json:"room"`   // what further ones may take
}
