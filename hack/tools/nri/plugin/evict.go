package main

import (
	"context"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
)

// evictions has the stub say what the protocol knows and the stub has no words
// for: whom to evict, with updates that are asked for and with the answer to
// CreateContainer.
func (p *plugin) evictions() stub.Option {
	return stub.WithTTRPCOptions(
		[]ttrpc.ClientOpts{ttrpc.WithUnaryClientInterceptor(p.asking)},
		[]ttrpc.ServerOpt{ttrpc.WithUnaryServerInterceptor(p.answering)},
	)
}

func (p *plugin) asking(ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, _ *ttrpc.UnaryClientInfo, next ttrpc.Invoker) error {
	if req.Method == "UpdateContainers" && len(p.Evict) > 0 {
		more, err := proto.Marshal(&api.UpdateContainersRequest{Evict: p.Evict})
		if err != nil {
			return err
		}
		// Messages that follow each other are one message with the fields of both.
		req.Payload = append(req.Payload, more...)
	}
	return next(ctx, req, resp)
}

func (p *plugin) answering(ctx context.Context, unmarshal ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, next ttrpc.Method) (any, error) {
	var created *api.CreateContainerRequest
	answer, err := next(ctx, func(message any) error {
		created, _ = message.(*api.CreateContainerRequest)
		return unmarshal(message)
	})
	if response, ok := answer.(*api.CreateContainerResponse); ok && response != nil && p.mine(created.GetContainer()) {
		response.Evict = append(response.Evict, p.EvictOnCreate...)
	}
	return answer, err
}
