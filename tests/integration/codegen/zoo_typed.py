"""Uses all that is generated from the zoo's protos; test_generated.py checks and runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
from google.longrunning.operations_pb2 import Operation
from google.protobuf.empty_pb2 import Empty
from other.v1.types_pb2 import Animal as OtherAnimal
from typing_extensions import assert_type
from zoo.v1.types_pb2 import Animal
from zoo.v1.zoo_service_lro import (
    AsyncZooClient,
    AsyncZooServicer,
    ZooClient,
    ZooServicer,
    _Zoo,
    add_ZooServicer_to_server,
)
from zoo.v1.zoo_service_pb2 import FeedRequest, FeedResponse

import lro_grpc
import lro_grpc.testing
from lro.v1.operation_metadata_pb2 import OperationMetadata

Meal = FeedResponse.Meal
MANY = [FeedRequest(name="a"), FeedRequest(name="b")]


class Zoo(ZooServicer):
    def Feed(
        self, request: FeedRequest, op: lro_grpc.OperationContext[OperationMetadata]
    ) -> FeedResponse.Meal:
        return Meal(dish=request.name)

    def Walk(self, request: Animal, op: lro_grpc.OperationContext[Animal]) -> OtherAnimal:
        op.metadata.name = f"{request.name} walks"
        return OtherAnimal(name=request.name)

    def Sing(self, request: Any, op: lro_grpc.OperationContext[Any]) -> Any:
        op.metadata.text = request.text
        return _Zoo.Sing.response()

    def LastMeal(self, request: FeedRequest, context: grpc.ServicerContext) -> Operation:
        return Operation(name="operations/last")

    def Tail(
        self, request: FeedRequest, context: grpc.ServicerContext
    ) -> Iterator[FeedResponse.Meal]:
        yield Meal(dish=request.name)

    def Join(self, requests: Iterator[FeedRequest], context: grpc.ServicerContext) -> Animal:
        return Animal(name="".join(one.name for one in requests))

    def Chat(
        self, requests: Iterator[FeedRequest], context: grpc.ServicerContext
    ) -> Iterator[Animal]:
        for one in requests:
            yield Animal(name=one.name)

    def None_(self, request: FeedRequest, context: grpc.ServicerContext) -> Empty:
        return Empty()

    def Any_(self, request: FeedRequest, context: grpc.ServicerContext) -> Empty:
        return Empty()

    def operations_(self, request: FeedRequest, context: grpc.ServicerContext) -> Empty:
        return Empty()

    def prepare_Feed_(self, request: FeedRequest, context: grpc.ServicerContext) -> Empty:
        return Empty()

    def rpc_start(self, request: FeedRequest, context: grpc.ServicerContext) -> Empty:
        return Empty()


class AsyncZoo(AsyncZooServicer):
    async def Feed(
        self, request: FeedRequest, op: lro_grpc.AsyncOperationContext[OperationMetadata]
    ) -> FeedResponse.Meal:
        return Meal(dish=request.name)

    async def Tail(
        self,
        request: FeedRequest,
        context: grpc.aio.ServicerContext[FeedRequest, FeedResponse.Meal],
    ) -> AsyncIterator[FeedResponse.Meal]:
        yield Meal(dish=request.name)

    async def Join(
        self, requests: AsyncIterator[FeedRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> Animal:
        return Animal(name="".join([one.name async for one in requests]))

    async def Chat(
        self, requests: AsyncIterator[FeedRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Animal]:
        async for one in requests:
            yield Animal(name=one.name)


def call(channel: grpc.Channel) -> None:
    zoo = ZooClient(channel)
    request = FeedRequest(name="x")
    meal = zoo.Feed(request).result()
    assert_type(meal, FeedResponse.Meal)
    assert meal.dish == "x"
    walk = zoo.Walk(Animal(name="y"))
    assert_type(walk, lro_grpc.OperationFuture[OtherAnimal, Animal])
    assert walk.result().name == "y"
    assert walk.metadata is not None
    assert walk.metadata.name == "y walks"
    song = zoo.Sing(_Zoo.Sing.request(text="la"))
    assert song.result().DESCRIPTOR.full_name == "zoo.lambda.None"
    assert song.metadata is not None
    assert song.metadata.text == "la"
    tail = zoo.Tail(request)
    for one in tail:
        assert_type(one, FeedResponse.Meal)
        assert one.dish == "x"
    assert tail.code() is grpc.StatusCode.OK
    joined = zoo.Join(iter(MANY))
    assert_type(joined, Animal)
    assert joined.name == "ab"
    assert [animal.name for animal in zoo.Chat(iter(MANY))] == ["a", "b"]
    for rpc in (zoo.None_, zoo.Any_, zoo.operations_, zoo.prepare_Feed_, zoo.rpc_start):
        assert rpc(request) == Empty()
    last = zoo.LastMeal(request)
    assert_type(last, Operation)
    assert last.name == "operations/last"


async def call_async(channel: grpc.aio.Channel) -> None:
    zoo = AsyncZooClient(channel)
    request = FeedRequest(name="x")
    meal = await (await zoo.Feed(request))
    assert_type(meal, FeedResponse.Meal)
    assert meal.dish == "x"
    tail = zoo.Tail(request)
    assert_type(tail, grpc.aio.UnaryStreamCall[FeedRequest, FeedResponse.Meal])
    assert [one.dish async for one in tail] == ["x"]
    assert (await zoo.Join(iter(MANY))).name == "ab"
    chat = zoo.Chat()
    for one in MANY:
        await chat.write(one)
    await chat.done_writing()
    assert [animal.name async for animal in chat] == ["a", "b"]


async def main() -> None:
    async with lro_grpc.testing.serve_async(AsyncZoo(), add_ZooServicer_to_server) as served:
        await call_async(served.channel)


if __name__ == "__main__":
    with lro_grpc.testing.serve(Zoo(), add_ZooServicer_to_server) as threads:
        call(threads.channel)
    asyncio.run(main())
    print("all is well")
