"""The calls of QueueService: decode, one call into the domain, encode."""

import time
from datetime import timedelta
from typing import Any

import grpc.aio

from executor_svc.queues import codec
from executor_svc.queues.failures import FailedSteps
from executor_svc.queues.ports import WeightStore
from executor_svc.queues.queues import Queues
from executor_svc.tasks.codec import check_request_id, page_size_of, timeout_of
from stepwire.api.executor.v1 import queue_service_pb2 as pb
from stepwire.api.executor.v1 import tenant_weight_pb2 as weights_pb
from stepwire.api.executor.v1.queue_service_pb2_grpc import QueueServiceServicer
from stepwire.call import current_call

Context = grpc.aio.ServicerContext[Any, Any]

# Kept back from a call's time to answer it.
ANSWER_SECONDS = 0.5


class QueueServicer(QueueServiceServicer):
    """See protos/stepwire/api/executor/v1/queue_service.proto."""

    def __init__(
        self,
        queues: Queues,
        failures: FailedSteps,
        weights: WeightStore,
        *,
        max_wait: timedelta,
    ) -> None:
        self._queues = queues
        self._failures = failures
        self._weights = weights
        self._max_wait = max_wait

    async def ListQueues(
        self, request: pb.ListQueuesRequest, context: Context
    ) -> pb.ListQueuesResponse:
        response = pb.ListQueuesResponse()
        for view in await self._queues.list():
            codec.write_queue(view, response.queues.add())
        return response

    async def GetQueue(self, request: pb.GetQueueRequest, context: Context) -> pb.GetQueueResponse:
        response = pb.GetQueueResponse()
        codec.write_queue(await self._queues.get(request.queue), response.queue)
        return response

    async def PauseQueue(
        self, request: pb.PauseQueueRequest, context: Context
    ) -> pb.PauseQueueResponse:
        view = await self._queues.pause(
            request.queue,
            note=codec.note_of(request.note),
            request_id=check_request_id(request.request_id),
        )
        response = pb.PauseQueueResponse()
        codec.write_queue(view, response.queue)
        return response

    async def ResumeQueue(
        self, request: pb.ResumeQueueRequest, context: Context
    ) -> pb.ResumeQueueResponse:
        view = await self._queues.resume(
            request.queue, request_id=check_request_id(request.request_id)
        )
        response = pb.ResumeQueueResponse()
        codec.write_queue(view, response.queue)
        return response

    async def DrainQueue(
        self, request: pb.DrainQueueRequest, context: Context
    ) -> pb.DrainQueueResponse:
        view = await self._queues.drain(
            request.queue,
            note=codec.note_of(request.note),
            at_most=timeout_of(request.timeout, limit=min(self._max_wait, _time_left())),
            request_id=check_request_id(request.request_id),
        )
        response = pb.DrainQueueResponse()
        codec.write_queue(view, response.queue)
        return response

    async def ListWorkers(
        self, request: pb.ListWorkersRequest, context: Context
    ) -> pb.ListWorkersResponse:
        response = pb.ListWorkersResponse()
        for worker in await self._queues.workers():
            codec.write_worker(worker, response.workers.add())
        return response

    async def DrainWorker(
        self, request: pb.DrainWorkerRequest, context: Context
    ) -> pb.DrainWorkerResponse:
        check_request_id(request.request_id)
        worker = await self._queues.drain_worker(codec.session_id_of(request.session_id))
        response = pb.DrainWorkerResponse()
        codec.write_worker(worker, response.worker)
        return response

    async def GetScalingSignals(
        self, request: pb.GetScalingSignalsRequest, context: Context
    ) -> pb.GetScalingSignalsResponse:
        view = await self._queues.scaling(
            codec.queues_of(request), codec.aim_of(request, self._queues.aim)
        )
        response = pb.GetScalingSignalsResponse()
        codec.write_scaling(view, response)
        return response

    async def ListFailedSteps(
        self, request: pb.ListFailedStepsRequest, context: Context
    ) -> pb.ListFailedStepsResponse:
        tenant_id = current_call().tenant_id
        page = await self._failures.list(
            tenant_id,
            codec.filter_of(request.filter),
            before=codec.page_before(request.page_token, tenant_id),
            limit=page_size_of(request.page_size),
        )
        response = pb.ListFailedStepsResponse()
        codec.write_failures(page, response, tenant_id=tenant_id)
        return response

    async def ReplaySteps(
        self, request: pb.ReplayStepsRequest, context: Context
    ) -> pb.ReplayStepsResponse:
        tenant_id = current_call().tenant_id
        request_id = codec.replay_id_of(request.request_id)
        if task_ids := codec.replay_tasks_of(request):
            replay = await self._failures.replay_tasks(tenant_id, task_ids, request_id=request_id)
        else:
            replay = await self._failures.replay_selected(
                tenant_id,
                codec.filter_of(request.filter),
                after=codec.replay_after(request.page_token, tenant_id),
                limit=codec.replay_size_of(request.page_size),
                request_id=request_id,
            )
        response = pb.ReplayStepsResponse()
        codec.write_replay(replay, response, tenant_id=tenant_id)
        return response

    async def SetTenantWeight(
        self, request: weights_pb.SetTenantWeightRequest, context: Context
    ) -> weights_pb.SetTenantWeightResponse:
        check_request_id(request.request_id)
        wanted = codec.weight_of(request)
        await self._weights.set_weight(wanted.tenant_id, wanted.weight)
        tenant = weights_pb.TenantWeight(tenant_id=wanted.tenant_id, weight=wanted.weight)
        return weights_pb.SetTenantWeightResponse(tenant=tenant)

    async def ListTenantWeights(
        self, request: weights_pb.ListTenantWeightsRequest, context: Context
    ) -> weights_pb.ListTenantWeightsResponse:
        size = page_size_of(request.page_size)
        after = codec.weights_after(request.page_token)
        response = weights_pb.ListTenantWeightsResponse()
        found = await self._weights.weights(after=after, limit=size + 1)
        codec.write_weights(found, response, size=size)
        return response


def _time_left() -> timedelta:
    """How long a call may wait and still be answered before its deadline."""
    deadline = current_call().deadline
    if deadline is None:
        return timedelta.max
    return timedelta(seconds=max(0.0, deadline - time.monotonic() - ANSWER_SECONDS))
