//! Arrow Flight SQL: what ADBC and JDBC drivers, and tools on them, ask of a database.
//!
//! Invariant: no state between calls. A ticket, and the handle of a prepared statement, is the text of its query and what its
//! parameters are, so that nothing is left of a client that went away, and another runner can answer what this one was
//! asked.

mod about;
mod handle;

use super::queries::{Answer, Queries, QueryError, Question};
use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
    CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc,
    Ticket,
};
use futures::{Stream, StreamExt, TryStreamExt};
use handle::Handle;
use prost::Message;
use prost::bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Response, Status, Streaming};

/// The only ones: names of tables are not divided further.
const CATALOG: &str = "smack";
const SCHEMA: &str = "public";
const TABLE: &str = "TABLE";

#[derive(Clone)]
pub struct Flight {
    queries: Queries,
}

pub fn service(queries: Queries) -> FlightServiceServer<Flight> {
    FlightServiceServer::new(Flight { queries })
}

type Handshakes = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;
type Rows = Response<<Flight as FlightService>::DoGetStream>;

/// Where the rows of a command are: here.
fn info(
    command: &impl ProstMessageExt,
    schema: &Schema,
    asked: Request<FlightDescriptor>,
) -> Result<Response<FlightInfo>, Status> {
    let ticket = Ticket::new(command.as_any().encode_to_vec());
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|error| Status::internal(format!("failed to tell the columns: {error}")))?
        .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
        .with_descriptor(asked.into_inner());
    Ok(Response::new(info))
}

fn encoded(schema: SchemaRef, rows: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static) -> Rows {
    let rows = FlightDataEncoderBuilder::new().with_schema(schema).build(rows);
    Response::new(rows.map_err(Status::from).boxed())
}

fn one(batch: Result<RecordBatch, impl Into<FlightError>>) -> Result<Rows, Status> {
    let batch = batch.map_err(|error| Status::from(error.into()))?;
    Ok(encoded(batch.schema(), futures::stream::once(async move { Ok(batch) })))
}

fn status(error: QueryError) -> Status {
    match error {
        QueryError::Wrong(wrong) => {
            let said = wrong.iter().map(|wrong| match &wrong.help {
                Some(help) => format!("{} ({help})", wrong.message),
                None => wrong.message.clone(),
            });
            Status::invalid_argument(said.collect::<Vec<_>>().join("; "))
        }
        QueryError::Busy(why) => Status::resource_exhausted(why),
        QueryError::Failed(why) => Status::internal(why),
    }
}

impl Flight {
    async fn rows(&self, question: Question) -> Result<Rows, Status> {
        let Answer { schema, rows } = self.queries.ask(question).await.map_err(status)?;
        let failed = |error: datafusion::error::DataFusionError| {
            tracing::warn!(%error, "a query failed in the middle of its rows");
            FlightError::from(Status::internal(format!("failed to run the query: {}", error.strip_backtrace())))
        };
        Ok(encoded(schema, rows.map_err(failed)))
    }
}

#[tonic::async_trait]
impl FlightSqlService for Flight {
    type FlightService = Self;

    /// Who gets here has shown the token already. Drivers that came with a user and a password show it as a bearer from here
    /// on.
    async fn do_handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Handshakes>, Status> {
        let answer = HandshakeResponse::default();
        let mut response: Response<Handshakes> = Response::new(futures::stream::once(async { Ok(answer) }).boxed());
        if let Some(bearer) = self.queries.bearer() {
            let value = bearer.parse::<AsciiMetadataValue>();
            let mut value = value.map_err(|_| Status::internal("the token cannot stand in a header"))?;
            value.set_sensitive(true);
            response.metadata_mut().insert("authorization", value);
        }
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = self.queries.schema(query.query.as_str().into()).await.map_err(status)?;
        let statement_handle = Handle::of(query.query).encoded();
        info(&TicketStatementQuery { statement_handle }, &schema, request)
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, _: Request<Ticket>) -> Result<Rows, Status> {
        self.rows(Handle::decoded(&ticket.statement_handle)?.question()?).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let prepared = self.queries.prepare(&query.query).await.map_err(status)?;
        let bytes = |schema: &Schema| -> Result<Bytes, ArrowError> {
            let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into()?;
            Ok(bytes)
        };
        let failed = |error: ArrowError| Status::internal(format!("failed to tell the columns: {error}"));
        Ok(ActionCreatePreparedStatementResult {
            dataset_schema: bytes(&prepared.schema).map_err(failed)?,
            parameter_schema: bytes(&prepared.parameters).map_err(failed)?,
            prepared_statement_handle: Handle::of(query.query).encoded(),
        })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let question = Handle::decoded(&query.prepared_statement_handle)?.question()?;
        let schema = self.queries.schema(question).await.map_err(status)?;
        info(&query, &schema, request)
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Rows, Status> {
        self.rows(Handle::decoded(&query.prepared_statement_handle)?.question()?).await
    }

    /// Values of a prepared statement's parameters. They come back in another handle, which drivers go on with.
    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let handle = Handle::decoded(&query.prepared_statement_handle)?;
        let data = request.into_inner().map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
        let mut values = None;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| {
                Status::invalid_argument(format!("the parameters' values are no Arrow stream: {error}"))
            })?;
            match batch.num_rows() {
                0 => {}
                1 if values.is_none() => values = Some(batch),
                _ => {
                    let several = "several rows of parameters were given; a query is asked with one at a time";
                    return Err(Status::invalid_argument(several));
                }
            }
        }
        let bound = handle.with(values.as_ref())?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(bound.encoded()) })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        Ok(())
    }

    async fn do_put_statement_update(
        &self,
        query: CommandStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        // What it says of a statement that writes is the way to do it.
        self.queries.schema(query.query.as_str().into()).await.map_err(status)?;
        Err(Status::invalid_argument("this changes nothing; ask for its rows"))
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _: Request<Ticket>) -> Result<Rows, Status> {
        let mut builder = query.into_builder();
        builder.append(CATALOG);
        one(builder.build())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &query.clone().into_builder().schema(), request)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _: Request<Ticket>) -> Result<Rows, Status> {
        let mut builder = query.into_builder();
        builder.append(CATALOG, SCHEMA);
        one(builder.build())
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &query.clone().into_builder().schema(), request)
    }

    async fn do_get_tables(&self, query: CommandGetTables, _: Request<Ticket>) -> Result<Rows, Status> {
        let mut builder = query.into_builder();
        for table in self.queries.store().list() {
            builder.append(CATALOG, SCHEMA, &table.name, TABLE, &table.schema).map_err(Status::from)?;
        }
        one(builder.build())
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _: Request<Ticket>) -> Result<Rows, Status> {
        let mut builder = query.into_builder();
        builder.append(TABLE);
        one(builder.build())
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query, &keys_schema(), request)
    }

    async fn do_get_primary_keys(&self, query: CommandGetPrimaryKeys, _: Request<Ticket>) -> Result<Rows, Status> {
        let table =
            self.queries.store().describe(&query.table).map_err(|error| Status::not_found(error.to_string()))?;
        let names = table.primary_key.iter().map(|at| table.schema.field(*at).name().clone());
        let n = table.primary_key.len();
        let all = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; n])) };
        let columns: Vec<ArrayRef> = vec![
            all(CATALOG),
            all(SCHEMA),
            all(&table.name),
            Arc::new(StringArray::from_iter_values(names)),
            Arc::new(Int32Array::from_iter_values(1..=n as i32)),
            Arc::new(StringArray::new_null(n)),
        ];
        one(RecordBatch::try_new(keys_schema(), columns))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let about = about::server().map_err(Status::from)?;
        info(&query, &query.clone().into_builder(&about).schema(), request)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Result<Rows, Status> {
        one(query.into_builder(&about::server().map_err(Status::from)?).build())
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let about = about::types().map_err(Status::from)?;
        info(&query, &query.into_builder(&about).schema(), request)
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, _: Request<Ticket>) -> Result<Rows, Status> {
        one(query.into_builder(&about::types().map_err(Status::from)?).build())
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

/// As the protocol has them.
fn keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("key_name", DataType::Utf8, true),
    ]))
}
