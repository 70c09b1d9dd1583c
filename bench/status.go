// This file owns what is read of a gateway's status.

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// readStatus asks a gateway how it stands.
func readStatus(at site) (*vramman.Status, error) {
	res, err := http.Get("http://" + at.plain + "/gateway/status")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	s := new(vramman.Status)
	if err := json.NewDecoder(res.Body).Decode(s); err != nil {
		return nil, fmt.Errorf("reading the gateway's status: %w", err)
	}
	return s, nil
}

// queueDepth is how many requests wait at a gateway.
func queueDepth(at site) (int64, error) {
	s, err := readStatus(at)
	if err != nil {
		return 0, err
	}
	for _, m := range s.Models {
		if m.Name == benchModel {
			return int64(m.Queue.Depth), nil
		}
	}
	return 0, fmt.Errorf("the gateway's status has no model %s", benchModel)
}

// starts is how many servers a gateway has started for the models that have one now:
// an instance's name ends in how many its model had until then.
func starts(at site) (int64, error) {
	s, err := readStatus(at)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, i := range s.Instances {
		n, err := strconv.ParseInt(i.ID[strings.LastIndexByte(i.ID, '-')+1:], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("the instance %s: %w", i.ID, err)
		}
		sum += n
	}
	return sum, nil
}
