// Command nri-plugin is a plugin on NRI's own stub that does what it is told
// to, and writes what happens to it, one line of JSON an event, to a file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

// behaviour is read from the file behind -behaviour, or from the plugin's
// configuration. Its answers apply to the containers called Container, or to
// all.
type behaviour struct {
	Container string `json:"container"`
	// What CreateContainer and UpdateContainer answer.
	Adjust *api.ContainerAdjustment `json:"adjust"`
	Update []*api.ContainerUpdate   `json:"update"`
	// What UpdateContainer answers, with the container's own ID where there is none.
	OnUpdate []*api.ContainerUpdate `json:"on_update"`
	OnSync   []*api.ContainerUpdate `json:"on_sync"`
	OnStop   []*api.ContainerUpdate `json:"on_stop"`
	// Events that fail, hang, or end the plugin.
	Fail  string `json:"fail"`
	Hang  string `json:"hang"`
	Crash string `json:"crash"`
	// Reason to reject adjustments with.
	Reject string `json:"reject"`
	// Updates to ask for without being asked, once a container was started.
	Unsolicited []*api.ContainerUpdate `json:"unsolicited"`
	// Evictions to ask for with them, and to answer CreateContainer with.
	Evict         []*api.ContainerEviction `json:"evict"`
	EvictOnCreate []*api.ContainerEviction `json:"evict_on_create"`

	Events      string `json:"events"`
	Log         string `json:"log"`
	FailRequest bool   `json:"fail_request"`
	Keep        bool   `json:"keep_connected"`
}

type plugin struct {
	sync.Mutex
	behaviour
	stub stub.Stub
}

type line struct {
	Event      string              `json:"event"`
	Pod        *api.PodSandbox     `json:"pod,omitempty"`
	Container  *api.Container      `json:"container,omitempty"`
	Pods       []string            `json:"pods,omitempty"`
	Containers []string            `json:"containers,omitempty"`
	Text       string              `json:"text,omitempty"`
	Failed     []string            `json:"failed,omitempty"`
	Resources  *api.LinuxResources `json:"resources,omitempty"`
}

func main() {
	var (
		p      plugin
		name   = flag.String("name", "", "name")
		index  = flag.String("index", "", "index")
		socket = flag.String("socket", "", "socket to connect to")
		file   = flag.String("behaviour", "", "file with what to do")
	)
	flag.Parse()
	if *file != "" {
		text, err := os.ReadFile(*file)
		check(err)
		check(json.Unmarshal(text, &p.behaviour))
	}
	opts := []stub.Option{p.evictions()}
	if *name != "" {
		opts = append(opts, stub.WithPluginName(*name))
	}
	if *index != "" {
		opts = append(opts, stub.WithPluginIdx(*index))
	}
	if *socket != "" {
		opts = append(opts, stub.WithDialer(func(string) (net.Conn, error) { return net.Dial("unix", *socket) }))
	}
	if p.FailRequest || p.Keep {
		opts = append(opts, stub.WithFailurePolicy(&api.FailurePolicy{FailRequest: p.FailRequest, KeepConnected: p.Keep}))
	}
	closed := sync.OnceFunc(func() { p.write(line{Event: "closed"}) })
	opts = append(opts, stub.WithOnClose(func() { closed(); os.Exit(0) }))
	s, err := stub.New(&p, opts...)
	check(err)
	p.stub = s
	check(s.Start(context.Background()))
	// Whichever of the two sees the connection's end first.
	s.Wait()
	closed()
}

// at writes the event down, and fails, hangs or ends where it is to.
func (p *plugin) at(l line) error {
	p.write(l)
	if p.Container != "" && l.Container != nil && l.Container.Name != p.Container {
		return nil
	}
	switch l.Event {
	case p.Crash:
		os.Exit(3)
	case p.Hang:
		time.Sleep(time.Hour)
	case p.Fail:
		return errors.New("as I was told")
	}
	return nil
}

func (p *plugin) mine(c *api.Container) bool { return p.Container == "" || c.GetName() == p.Container }

func (p *plugin) write(l line) {
	if p.Log == "" {
		return
	}
	p.Lock()
	defer p.Unlock()
	f, err := os.OpenFile(p.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	check(err)
	defer f.Close()
	check(json.NewEncoder(f).Encode(l))
}

func (p *plugin) Configure(_ context.Context, config, runtime, version string) (api.EventMask, error) {
	if config != "" {
		if err := json.Unmarshal([]byte(config), &p.behaviour); err != nil {
			return 0, err
		}
	}
	if err := p.at(line{Event: "Configure", Text: runtime + " " + version}); err != nil {
		return 0, err
	}
	if p.Events == "" {
		return 0, nil
	}
	return api.ParseEventMask(p.Events)
}

func (p *plugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	l := line{Event: "Synchronize"}
	for _, pod := range pods {
		l.Pods = append(l.Pods, pod.Id)
	}
	for _, c := range containers {
		l.Containers = append(l.Containers, c.Id)
	}
	return p.OnSync, p.at(l)
}

func (p *plugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.at(line{Event: "RunPodSandbox", Pod: pod})
}

func (p *plugin) UpdatePodSandbox(_ context.Context, pod *api.PodSandbox, _, r *api.LinuxResources) error {
	return p.at(line{Event: "UpdatePodSandbox", Pod: pod, Resources: r})
}

func (p *plugin) PostUpdatePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.at(line{Event: "PostUpdatePodSandbox", Pod: pod})
}

func (p *plugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.at(line{Event: "StopPodSandbox", Pod: pod})
}

func (p *plugin) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.at(line{Event: "RemovePodSandbox", Pod: pod})
}

func (p *plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	if err := p.at(line{Event: "CreateContainer", Pod: pod, Container: c}); err != nil || !p.mine(c) {
		return nil, nil, err
	}
	return p.Adjust, p.Update, nil
}

func (p *plugin) PostCreateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	return p.at(line{Event: "PostCreateContainer", Pod: pod, Container: c})
}

func (p *plugin) StartContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	return p.at(line{Event: "StartContainer", Pod: pod, Container: c})
}

func (p *plugin) PostStartContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	if p.mine(c) && len(p.Unsolicited)+len(p.Evict) > 0 {
		go p.ask(c.Id)
	}
	return p.at(line{Event: "PostStartContainer", Pod: pod, Container: c})
}

// ask asks for updates and evictions; those without an ID are of container id.
func (p *plugin) ask(id string) {
	for _, e := range p.Evict {
		if e.ContainerId == "" {
			e.ContainerId = id
		}
	}
	failed, err := p.stub.UpdateContainers(named(p.Unsolicited, id))
	l := line{Event: "UpdateContainers"}
	for _, u := range failed {
		l.Failed = append(l.Failed, u.ContainerId)
	}
	if err != nil {
		l.Text = err.Error()
	}
	p.write(l)
}

func named(updates []*api.ContainerUpdate, id string) []*api.ContainerUpdate {
	for _, u := range updates {
		if u.ContainerId == "" {
			u.ContainerId = id
		}
	}
	return updates
}

func (p *plugin) UpdateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container, r *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	if err := p.at(line{Event: "UpdateContainer", Pod: pod, Container: c, Resources: r}); err != nil || !p.mine(c) {
		return nil, err
	}
	return named(p.OnUpdate, c.Id), nil
}

func (p *plugin) PostUpdateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	return p.at(line{Event: "PostUpdateContainer", Pod: pod, Container: c})
}

func (p *plugin) StopContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	if err := p.at(line{Event: "StopContainer", Pod: pod, Container: c}); err != nil || !p.mine(c) {
		return nil, err
	}
	return p.OnStop, nil
}

func (p *plugin) RemoveContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	return p.at(line{Event: "RemoveContainer", Pod: pod, Container: c})
}

func (p *plugin) ValidateContainerAdjustment(_ context.Context, req *api.ValidateContainerAdjustmentRequest) error {
	owners, _ := json.Marshal(req.Owners)
	if err := p.at(line{Event: "ValidateContainerAdjustment", Pod: req.Pod, Container: req.Container, Text: string(owners)}); err != nil {
		return err
	}
	if p.Reject != "" && strings.Contains(req.Container.Name, p.Container) {
		return errors.New(p.Reject)
	}
	return nil
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "nri-plugin:", err)
		os.Exit(1)
	}
}
