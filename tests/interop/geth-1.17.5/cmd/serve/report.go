// What was measured, as a table and as JSON.

package main

import (
	"fmt"
	"slices"
	"time"
)

// cost is what a measurement saw.
type cost struct {
	requests int
	// bytes are those of the answers before they were compressed.
	bytes int
	// wireBytes are those of the answers as they came.
	wireBytes int
	// wall is from the first request to the last answer; cpu and clientCPU are of the server and of the client in that time.
	wall, cpu, clientCPU time.Duration
	// anonBytes is the server's own memory at the end, without mapped files.
	anonBytes int
}

func (c cost) requestsPerS() float64    { return float64(c.requests) / c.wall.Seconds() }
func (c cost) mbPerS() float64          { return float64(c.bytes) / 1e6 / c.wall.Seconds() }
func (c cost) kbPerAnswer() float64     { return float64(c.bytes) / 1e3 / float64(c.requests) }
func (c cost) wireKBPerAnswer() float64 { return float64(c.wireBytes) / 1e3 / float64(c.requests) }
func (c cost) cpuSPerGB() float64       { return c.cpu.Seconds() / (float64(c.bytes) / 1e9) }
func (c cost) cpuUsPerRequest() float64 {
	return float64(c.cpu.Nanoseconds()) / 1e3 / float64(c.requests)
}
func (c cost) cores() float64       { return c.cpu.Seconds() / c.wall.Seconds() }
func (c cost) clientCores() float64 { return c.clientCPU.Seconds() / c.wall.Seconds() }
func (c cost) anonMB() float64      { return float64(c.anonBytes) / 1e6 }

// values are those of one figure over the rounds, in order of size.
func values(costs []cost, figure func(cost) float64) []float64 {
	found := make([]float64, len(costs))
	for i, c := range costs {
		found[i] = figure(c)
	}
	slices.Sort(found)
	return found
}

func median(costs []cost, figure func(cost) float64) float64 {
	return values(costs, figure)[len(costs)/2]
}

// line is what is told of a server and a workload: medians of the rounds, each figure by itself.
type line struct {
	Asked           string  `json:"asked_for"`
	Server          string  `json:"server"`
	KBPerAnswer     float64 `json:"answer_kb"`
	WireKBPerAnswer float64 `json:"answer_wire_kb"`
	RequestsPerS    float64 `json:"requests_per_s"`
	MBPerS          float64 `json:"mb_per_s"`
	CPUSPerGB       float64 `json:"cpu_s_per_gb"`
	LeastCPUSPerGB  float64 `json:"cpu_s_per_gb_least"`
	MostCPUSPerGB   float64 `json:"cpu_s_per_gb_most"`
	CPUUsPerRequest float64 `json:"cpu_us_per_request"`
	// TimesCairn is the CPU time for the same bytes, as a multiple of cairn's in the same round.
	TimesCairn  float64 `json:"cpu_times_cairn"`
	Cores       float64 `json:"server_cores"`
	ClientCores float64 `json:"client_cores"`
	// AnonMB is the most of all rounds.
	AnonMB float64 `json:"rss_anon_mb"`
}

// tell is the line of a server's rounds, beside those of cairn.
func tell(asked, server string, costs, cairn []cost) line {
	gb, anon := values(costs, cost.cpuSPerGB), values(costs, cost.anonMB)
	last := len(costs) - 1
	times := make([]float64, len(costs))
	for i := range costs {
		times[i] = costs[i].cpuSPerGB() / cairn[i].cpuSPerGB()
	}
	slices.Sort(times)
	return line{
		Asked: asked, Server: server,
		KBPerAnswer:     median(costs, cost.kbPerAnswer),
		WireKBPerAnswer: median(costs, cost.wireKBPerAnswer),
		RequestsPerS:    median(costs, cost.requestsPerS),
		MBPerS:          median(costs, cost.mbPerS),
		CPUSPerGB:       median(costs, cost.cpuSPerGB),
		LeastCPUSPerGB:  gb[0],
		MostCPUSPerGB:   gb[last],
		CPUUsPerRequest: median(costs, cost.cpuUsPerRequest),
		TimesCairn:      times[len(times)/2],
		Cores:           median(costs, cost.cores),
		ClientCores:     median(costs, cost.clientCores),
		AnonMB:          anon[last],
	}
}

// titles and row print the table for people, line by line as they come.
func titles() {
	fmt.Printf("%-14s %-21s %9s %8s %10s %7s %9s %15s %9s %8s %6s %6s %8s\n", "asked for", "of", "answer kB", "on wire", "requests/s",
		"MB/s", "CPU s/GB", "(least..most)", "CPU us/rq", "x cairn", "cores", "client", "anon MB")
}

func (l *line) row() {
	fmt.Printf("%-14s %-21s %9.1f %8.1f %10.0f %7.1f %9.2f %15s %9.1f %8.2f %6.2f %6.2f %8.1f\n", l.Asked, l.Server, l.KBPerAnswer,
		l.WireKBPerAnswer, l.RequestsPerS, l.MBPerS, l.CPUSPerGB, fmt.Sprintf("(%.2f..%.2f)", l.LeastCPUSPerGB, l.MostCPUSPerGB),
		l.CPUUsPerRequest, l.TimesCairn, l.Cores, l.ClientCores, l.AnonMB)
}
