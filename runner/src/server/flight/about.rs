//! What drivers ask about the server itself: what it is called, what it can, and which types it has.

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{Nullable, Searchable, SqlInfo, XdbcDataType};

/// Of the columnar format, which is older than the libraries' versions.
const ARROW_FORMAT: &str = "1.5";

pub(super) fn server() -> Result<SqlInfoData, FlightError> {
    let mut about = SqlInfoDataBuilder::new();
    about.append(SqlInfo::FlightSqlServerName, "smack");
    about.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    about.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_FORMAT);
    about.append(SqlInfo::FlightSqlServerReadOnly, true);
    about.append(SqlInfo::FlightSqlServerSql, true);
    about.append(SqlInfo::FlightSqlServerSubstrait, false);
    about.append(SqlInfo::FlightSqlServerCancel, false);
    about.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    about.build()
}

pub(super) fn types() -> Result<XdbcTypeInfoData, FlightError> {
    use XdbcDataType as Xdbc;
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, kind, digits, quoted) in [
        ("BIGINT", Xdbc::XdbcBigint, Some(19), false),
        ("INT", Xdbc::XdbcInteger, Some(10), false),
        ("SMALLINT", Xdbc::XdbcSmallint, Some(5), false),
        ("TINYINT", Xdbc::XdbcTinyint, Some(3), false),
        ("DOUBLE", Xdbc::XdbcDouble, Some(15), false),
        ("FLOAT", Xdbc::XdbcReal, Some(7), false),
        ("DECIMAL", Xdbc::XdbcDecimal, Some(38), false),
        ("BOOLEAN", Xdbc::XdbcBit, None, false),
        ("VARCHAR", Xdbc::XdbcVarchar, None, true),
        ("BYTES", Xdbc::XdbcVarbinary, None, true),
        ("DATE", Xdbc::XdbcDate, None, true),
        ("TIME", Xdbc::XdbcTime, None, true),
        ("TIMESTAMP", Xdbc::XdbcTimestamp, None, true),
    ] {
        types.append(XdbcTypeInfo {
            type_name: name.into(),
            data_type: kind,
            column_size: digits,
            literal_prefix: quoted.then(|| "'".into()),
            literal_suffix: quoted.then(|| "'".into()),
            create_params: None,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: name == "VARCHAR",
            searchable: Searchable::Full,
            unsigned_attribute: digits.map(|_| false),
            fixed_prec_scale: false,
            auto_increment: None,
            local_type_name: Some(name.into()),
            minimum_scale: None,
            maximum_scale: None,
            sql_data_type: kind,
            datetime_subcode: None,
            num_prec_radix: digits.map(|_| 10),
            interval_precision: None,
        });
    }
    types.build()
}
