// Command nri-merge answers, for each line of its input, how NRI's own
// adaptation package merges plugins' answers. Lines are JSON, messages in them
// are protobuf.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/adaptation/builtin"
	"github.com/containerd/nri/pkg/api"
	"google.golang.org/protobuf/proto"
)

type answer struct {
	Plugin  string `json:"plugin"`
	Message []byte `json:"message"`
}

type question struct {
	// "create", "update" or "stop"
	Kind    string   `json:"kind"`
	Request []byte   `json:"request"`
	Answers []answer `json:"answers"`
}

type result struct {
	Error   string   `json:"error,omitempty"`
	Adjust  []byte   `json:"adjust,omitempty"`
	Updates [][]byte `json:"updates,omitempty"`
	Own     []byte   `json:"own,omitempty"`
	HasOwn  bool     `json:"has_own,omitempty"`
	Owners  []byte   `json:"owners,omitempty"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 16<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var q question
		check(json.Unmarshal(in.Bytes(), &q))
		r, err := reply(&q)
		if err != nil {
			r = &result{Error: err.Error()}
		}
		check(out.Encode(r))
	}
	check(in.Err())
}

func reply(q *question) (*result, error) {
	r := &result{}
	switch q.Kind {
	case "create":
		req := decode(q.Request, &api.CreateContainerRequest{})
		a := start(q, func(h *builtin.BuiltinHandlers, m []byte) {
			h.CreateContainer = func(context.Context, *api.CreateContainerRequest) (*api.CreateContainerResponse, error) {
				return decode(m, &api.CreateContainerResponse{}), nil
			}
		}, func(v *api.ValidateContainerAdjustmentRequest) { r.Owners = encode(v.Owners) })
		rpl, err := a.CreateContainer(context.Background(), req)
		if err != nil {
			return nil, err
		}
		r.Adjust = encode(rpl.Adjust)
		for _, u := range rpl.Update {
			r.Updates = append(r.Updates, encode(u))
		}
	case "update":
		req := decode(q.Request, &api.UpdateContainerRequest{})
		a := start(q, func(h *builtin.BuiltinHandlers, m []byte) {
			h.UpdateContainer = func(context.Context, *api.UpdateContainerRequest) (*api.UpdateContainerResponse, error) {
				return decode(m, &api.UpdateContainerResponse{}), nil
			}
		}, nil)
		rpl, err := a.UpdateContainer(context.Background(), req)
		if err != nil {
			return nil, err
		}
		last := len(rpl.Update) - 1
		for _, u := range rpl.Update[:last] {
			r.Updates = append(r.Updates, encode(u))
		}
		if own := rpl.Update[last]; own != nil {
			r.Own, r.HasOwn = encode(own), true
		}
	case "stop":
		req := decode(q.Request, &api.StopContainerRequest{})
		a := start(q, func(h *builtin.BuiltinHandlers, m []byte) {
			h.StopContainer = func(context.Context, *api.StopContainerRequest) (*api.StopContainerResponse, error) {
				return decode(m, &api.StopContainerResponse{}), nil
			}
		}, nil)
		rpl, err := a.StopContainer(context.Background(), req)
		if err != nil {
			return nil, err
		}
		for _, u := range rpl.Update {
			r.Updates = append(r.Updates, encode(u))
		}
	default:
		check(fmt.Errorf("unknown kind %q", q.Kind))
	}
	return r, nil
}

// start makes an adaptation whose plugins give the question's answers.
func start(q *question, arm func(*builtin.BuiltinHandlers, []byte), validate func(*api.ValidateContainerAdjustmentRequest)) *adaptation.Adaptation {
	var plugins []*builtin.BuiltinPlugin
	for _, answer := range q.Answers {
		index, base, _ := strings.Cut(answer.Plugin, "-")
		p := &builtin.BuiltinPlugin{Index: index, Base: base}
		arm(&p.Handlers, answer.Message)
		plugins = append(plugins, p)
	}
	if validate != nil {
		plugins = append(plugins, &builtin.BuiltinPlugin{
			Index: "99", Base: "owners",
			Handlers: builtin.BuiltinHandlers{
				ValidateContainerAdjustment: func(_ context.Context, req *api.ValidateContainerAdjustmentRequest) error {
					validate(req)
					return nil
				},
			},
		})
	}
	synchronize := func(ctx context.Context, cb adaptation.SyncCB) error {
		_, err := cb(ctx, nil, nil)
		return err
	}
	update := func(context.Context, []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) { return nil, nil }
	a, err := adaptation.New("test", "0", synchronize, update,
		adaptation.WithDisabledExternalConnections(),
		adaptation.WithPluginPath("/nonexistent"),
		adaptation.WithBuiltinPlugins(plugins...))
	check(err)
	check(a.Start())
	return a
}

func decode[M proto.Message](bytes []byte, m M) M {
	check(proto.Unmarshal(bytes, m))
	return m
}

func encode(m proto.Message) []byte {
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	check(err)
	return bytes
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "nri-merge:", err)
		os.Exit(1)
	}
}
