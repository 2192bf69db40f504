import java.nio.file.Path;
import org.neo4j.dbms.api.DatabaseManagementService;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;

/** Runs Neo4j's engine with its Bolt server, as configured, until it is asked to end. */
public class Server {
    public static void main(String[] arguments) throws InterruptedException {
        DatabaseManagementService server =
                new DatabaseManagementServiceBuilder(Path.of(arguments[0]))
                        .loadPropertiesFromFile(Path.of(arguments[1]))
                        .build();
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdown));
        System.out.println("Started.");
        Thread.currentThread().join();
    }
}
