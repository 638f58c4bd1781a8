// What a program in Java sees of a cluster through the Arrow Flight SQL driver for JDBC: java Ask.java HOST:PORT TOKEN
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

public class Ask {
    static void is(Object found, Object expected) {
        if (!String.valueOf(found).equals(String.valueOf(expected))) {
            throw new AssertionError("found " + found + " and not " + expected);
        }
    }

    public static void main(String[] args) throws Exception {
        var url = "jdbc:arrow-flight-sql://" + args[0] + "/?useEncryption=false";
        var properties = new Properties();
        properties.put("token", args[1]);
        try (Connection connection = DriverManager.getConnection(url, properties)) {
            is(connection.getMetaData().getDatabaseProductName(), "smack");
            var columns = new StringBuilder();
            try (ResultSet found = connection.getMetaData().getColumns(null, null, "jdbc_kept", "%")) {
                while (found.next()) columns.append(found.getString("COLUMN_NAME")).append(' ').append(found.getInt("DATA_TYPE")).append(' ');
            }
            is(columns, "k " + java.sql.Types.BIGINT + " word " + java.sql.Types.VARCHAR + " at " + java.sql.Types.TIMESTAMP_WITH_TIMEZONE + " ");
            var select = "SELECT k, word, at, CAST(k AS DOUBLE) / 2 AS half, CAST(NULL AS BIGINT) AS none FROM jdbc_kept ORDER BY k";
            try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(select)) {
                for (long k = 0; k < 3; k++) {
                    is(rows.next(), true);
                    is(rows.getLong("k"), k);
                    is(rows.getString(2), "word " + k);
                    is(rows.getTimestamp("at").toInstant(), "2026-01-01T00:00:00Z");
                    is(rows.getDouble("half"), k / 2.0);
                    rows.getLong("none");
                    is(rows.wasNull(), true);
                }
                is(rows.next(), false);
            }
            try (PreparedStatement prepared = connection.prepareStatement("SELECT COUNT(*) AS n FROM jdbc_kept");
                    ResultSet rows = prepared.executeQuery()) {
                is(rows.next(), true);
                is(rows.getLong(1), 3L);
            }
            var asked = "SELECT k, word FROM jdbc_kept WHERE k >= ? AND word <> ? AND at < ? ORDER BY k";
            try (PreparedStatement prepared = connection.prepareStatement(asked)) {
                is(prepared.getParameterMetaData().getParameterCount(), 3);
                for (long least = 0; least < 3; least++) {
                    prepared.setLong(1, least);
                    prepared.setString(2, "word 1");
                    prepared.setTimestamp(3, java.sql.Timestamp.from(java.time.Instant.parse("2026-01-02T00:00:00Z")));
                    var found = new StringBuilder();
                    try (ResultSet rows = prepared.executeQuery()) {
                        while (rows.next()) found.append(rows.getLong(1)).append(rows.getString(2)).append(' ');
                    }
                    is(found, least == 0 ? "0word 0 2word 2 " : "2word 2 ");
                }
            }
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery("SELECT nothing FROM jdbc_kept");
                throw new AssertionError("a column that is not there was found");
            } catch (SQLException error) {
                is(error.getMessage().contains("unknown column 'nothing'"), true);
            }
        }
        // Tools that know users and passwords alone give the token as the password.
        var named = new Properties();
        named.put("user", "anybody");
        named.put("password", args[1]);
        try (Connection connection = DriverManager.getConnection(url, named);
                Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT COUNT(*) AS n FROM jdbc_kept")) {
            is(rows.next() && rows.getLong(1) == 3L, true);
        }
        // A wrong token is told so.
        properties.put("token", "wrong");
        try (Connection connection = DriverManager.getConnection(url, properties); Statement statement = connection.createStatement()) {
            statement.executeQuery("SELECT 1 AS one");
            throw new AssertionError("a wrong token opened the door");
        } catch (SQLException error) {
            is(error.getMessage().contains("token"), true);
        }
        System.out.println("ok: JDBC");
    }
}
