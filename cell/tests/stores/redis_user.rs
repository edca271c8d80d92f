//! What the user that cells work as may do in Redis, asked of a real one, and which Redis a cell does not work with.

use floodgate_cell::inventory::{Inventory, InventoryError};
use local::{Stack, StackOptions};
use redis::{Cmd, Value};

use crate::stores::Stores;

/// Nobody who takes over a cell's process may do these: they look around, forget, save, listen, or act for others.
const FORBIDDEN: &[&str] = &[
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "DBSIZE",
    "FLUSHALL",
    "FLUSHDB",
    "SWAPDB 0 1",
    "GET fg:a",
    "SET fg:a 1",
    "GETDEL fg:a",
    "MGET fg:a",
    "EXISTS fg:a",
    "TYPE fg:a",
    "EXPIRE fg:a 1",
    "PERSIST fg:a",
    "RENAME fg:a fg:b",
    "COPY fg:a fg:b",
    "MOVE fg:a 1",
    "DUMP fg:a",
    "RESTORE fg:a 0 x",
    "MIGRATE 127.0.0.1 1 fg:a 0 1",
    "OBJECT ENCODING fg:a",
    "MEMORY USAGE fg:a",
    "SORT fg:a",
    "HGETALL fg:a",
    "HDEL fg:a f",
    "HSCAN fg:a 0",
    "LPUSH fg:a 1",
    "LINSERT fg:a BEFORE 1 2",
    "SADD fg:a 1",
    "ZADD fg:a 1 1",
    "XADD fg:a * f 1",
    "EVAL return 0",
    "EVALSHA a 0",
    "SCRIPT LOAD return",
    "SCRIPT FLUSH",
    "FUNCTION FLUSH",
    "FUNCTION DELETE floodgate",
    "FUNCTION LIST",
    "FUNCTION DUMP",
    "FUNCTION KILL",
    "CONFIG GET *",
    "CONFIG SET maxmemory-policy allkeys-lru",
    "CONFIG REWRITE",
    "ACL LIST",
    "ACL WHOAMI",
    "ACL SETUSER cell +@all",
    "CLIENT LIST",
    "CLIENT KILL 127.0.0.1:1",
    "CLIENT PAUSE 1",
    "COMMAND COUNT",
    "LATENCY LATEST",
    "SLOWLOG GET",
    "MODULE LIST",
    "MONITOR",
    "SUBSCRIBE fg:a",
    "PUBLISH fg:a 1",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "LASTSAVE",
    "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE",
    "FAILOVER ABORT",
    "PSYNC ? -1",
    "CLUSTER INFO",
    "WAIT 0 1",
    "MULTI",
    "SELECT 1",
];

/// These a cell needs, and their functions with them.
const ALLOWED: &[&str] = &[
    "PING",
    "INFO server memory persistence",
    "HSET fg:h f v",
    "HGET fg:h f",
    "HMGET fg:h f g",
    "RPUSH fg:l 1 2 3",
    "LRANGE fg:l 0 -1",
    "LTRIM fg:l 1 -1",
    "SETRANGE fg:s 16 x",
    "GETRANGE fg:s 0 -1",
    "DEL fg:h",
    "UNLINK fg:l fg:s",
];

/// The same on keys that are nobody's here.
const ELSEWHERE: &[&str] = &[
    "HSET other f v",
    "HGET other f",
    "LRANGE f:g 0 -1",
    "SETRANGE xfg:s 0 x",
    "GETRANGE FG:s 0 -1",
    "DEL other",
    "UNLINK fg:l other",
    "FCALL fg_load_open 1 other 1",
];

fn command(line: &str) -> Cmd {
    let mut command = Cmd::new();
    for word in line.split(' ') {
        command.arg(word);
    }
    command
}

#[tokio::test]
async fn inv_9_the_user_of_cells_may_do_what_is_listed_and_nothing_else() {
    let stores = Stores::start().await;
    // The functions are there.
    stores.inventory.run().await.unwrap();
    let url = stores.stack.endpoint("cell-1/redis").unwrap().url;
    let mut redis =
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    for line in ALLOWED {
        let answer = command(line).query_async::<Value>(&mut redis).await;
        assert!(answer.is_ok(), "{line}: {answer:?}");
    }
    let open = command("FCALL fg_load_open 1 fg:{a:b:0}:rec 1");
    let opened = open.query_async::<()>(&mut redis).await;
    assert_eq!(opened.unwrap_err().code(), Some("STALE"), "the function ran");
    for line in FORBIDDEN.iter().chain(ELSEWHERE) {
        let answer = command(line).query_async::<Value>(&mut redis).await;
        let code = answer.as_ref().err().and_then(|error| error.code().map(str::to_owned));
        assert_eq!(code.as_deref(), Some("NOPERM"), "{line}: {answer:?}");
    }
    // A function has no more rights than its caller.
    let library = "#!lua name=probe\nredis.register_function('probe', function(keys)\n\
                   return redis.call('GET', keys[1]) end)";
    let mut load = Cmd::new();
    load.arg("FUNCTION").arg("LOAD").arg(library);
    load.query_async::<()>(&mut stores.redis.clone()).await.unwrap();
    let probe = command("FCALL probe 1 fg:a");
    assert!(probe.query_async::<()>(&mut stores.redis.clone()).await.is_ok());
    let refused = probe.query_async::<()>(&mut redis).await.unwrap_err().to_string();
    assert!(refused.contains("can't run this command"), "{refused}");
}

#[tokio::test]
async fn a_redis_that_may_forget_grants_is_not_worked_with() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let options = StackOptions {
            redis_settings: vec![("maxmemory-policy".to_owned(), policy.to_owned())],
            ..StackOptions::default()
        };
        let stack = Stack::new(options).await.unwrap();
        let url = stack.start_redis("cell-1").await.unwrap().url;
        let refused = Inventory::new(&url).unwrap().run().await;
        let Err(InventoryError::Unknown(why)) = &refused else { panic!("{refused:?}") };
        assert!(why.contains("set maxmemory-policy noeviction"), "{why}");

        // Whoever mends it is worked with at once.
        let admin = redis::Client::open(stack.redis_admin_url("cell-1").unwrap()).unwrap();
        let mut admin = admin.get_multiplexed_async_connection().await.unwrap();
        let mend = command("CONFIG SET maxmemory-policy noeviction");
        mend.query_async::<()>(&mut admin).await.unwrap();
        assert!(Inventory::new(&url).unwrap().run().await.is_ok());
    }
}
