//! What a cached token costs: time and allocations, alone and among 64 tasks. Opens no socket.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use smtp_oauth::{AccessToken, Clock, TokenCache, TokenProvider, TokenRequest, token};
use tokio::runtime::Runtime;

const TASKS: u64 = 64;

fn cache(runtime: &Runtime) -> TokenCache {
    let provider = token::from_fn(|| async {
        AccessToken::new("x".repeat(2000), Clock::system().now() + Duration::from_secs(3600))
    });
    let cache = TokenCache::new(provider);
    runtime.block_on(cache.token(TokenRequest::new())).expect("the provider never fails");
    cache
}

async fn ask(cache: &TokenCache) {
    black_box(cache.token(black_box(TokenRequest::new())).await.expect("a cached token"));
}

fn one_task(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let cache = cache(&runtime);
    let allocations = allocation_counter::measure(|| {
        for _ in 0..1000 {
            let mut asking = pin!(ask(&cache));
            let polled = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_ready(), "a cached token is there at once");
        }
    });
    let allocations = allocations.count_total;
    println!("allocations in 1000 uses of a cached token: {allocations}");
    assert_eq!(allocations, 0, "a cached token is handed out without allocation");
    criterion.bench_function("cached token, 1 task", |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..count {
                    ask(&cache).await;
                }
                started.elapsed()
            })
        });
    });
}

fn many_tasks(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let cache = cache(&runtime);
    criterion.bench_function("cached token, each of 64 tasks", |bencher| {
        bencher.iter_custom(|count| {
            let each = count.div_ceil(TASKS);
            runtime.block_on(async {
                let started = Instant::now();
                let tasks: Vec<_> = (0..TASKS)
                    .map(|_| {
                        let cache = cache.clone();
                        tokio::spawn(async move {
                            for _ in 0..each {
                                ask(&cache).await;
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("no task panics");
                }
                started.elapsed()
            })
        });
    });
}

criterion_group!(benches, one_task, many_tasks);
criterion_main!(benches);
