//! A server that has its rows already and only sends them.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt, SqlInfo, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[derive(Clone)]
pub struct Bare {
    schema: SchemaRef,
    batches: Arc<Vec<RecordBatch>>,
}

pub fn service(schema: SchemaRef, batches: Vec<RecordBatch>) -> FlightServiceServer<Bare> {
    FlightServiceServer::new(Bare { schema, batches: Arc::new(batches) })
}

#[tonic::async_trait]
impl FlightSqlService for Bare {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = TicketStatementQuery { statement_handle: query.query.into() };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
        Ok(Response::new(FlightInfo::new().with_endpoint(endpoint)))
    }

    async fn do_get_statement(
        &self,
        _: TicketStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let batches = Arc::clone(&self.batches);
        let rows = futures::stream::iter((0..batches.len()).map(move |at| Ok(batches[at].clone())));
        let rows = FlightDataEncoderBuilder::new().with_schema(Arc::clone(&self.schema)).build(rows);
        Ok(Response::new(rows.map_err(Status::from).boxed()))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
