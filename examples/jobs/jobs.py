"""Jobs: operations as resources with a state of their own, to get and to list (AIP-152).

$ python jobs.py
projects/p/locations/l/reportJobs/op-… is JOB_STATE_SUCCEEDED, of 3 pages
1 job has 3 pages
"""

import asyncio

import grpc.aio
import reports_lro
from google.protobuf.json_format import MessageToDict
from reports_pb2 import (
    BuildReportRequest,
    GetReportJobRequest,
    ListReportJobsRequest,
    Report,
    ReportJob,
)

import lro_grpc

SERVICE, PARENT = "reports.v1.ReportService", "projects/p/locations/l"


class ReportService(reports_lro.AsyncReportServiceServicer):
    async def BuildReport(
        self, request: BuildReportRequest, op: lro_grpc.AsyncOperationContext[ReportJob]
    ) -> Report:
        for page in range(1, request.pages + 1):
            op.metadata.pages = page  # the work
            op.progress(100 * page / request.pages)
        return Report(text=f"{request.pages} pages")


async def main() -> None:
    server = grpc.aio.server()
    operations = lro_grpc.Operations("memory:")
    registrar = operations.attach(server)
    operations.add_jobs(SERVICE, ReportJob, started_by=f"/{SERVICE}/BuildReport")
    reports_lro.add_ReportServiceServicer_to_server(ReportService(), registrar)
    port = server.add_insecure_port("127.0.0.1:0")
    await operations.start()
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        reports = reports_lro.AsyncReportServiceClient(channel)
        future = await reports.BuildReport(BuildReportRequest(parent=PARENT, pages=3))
        name = future.name.replace("/operations/", "/reportJobs/")
        await future
        job = MessageToDict(await reports.GetReportJob(GetReportJobRequest(name=name)))
        print(f"{job['name']} is {job['state']}, of {job['pages']} pages")
        request = ListReportJobsRequest(parent=PARENT, filter="pages = 3 AND state = SUCCEEDED")
        listed = await reports.ListReportJobs(request)
        print(len(listed.report_jobs), "job has 3 pages")
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
