#!/bin/bash
# Real mail servers for the interop tests: Postfix for submission, Dovecot as its SASL server.
# README.md, beside this file, says what they are for; nothing here listens on, or sends to, anything but loopback.
#
#   servers.sh install      installs what is missing (Debian and Ubuntu), starting no service
#   servers.sh start DIR    sets both servers up in DIR, an empty directory, starts them and waits for their answer
#   servers.sh stop DIR     stops them; DIR stays
#
# `start` takes these from the environment:
#   INTROSPECTION_PORT      where 127.0.0.1 answers /introspect (RFC 7662); default: nowhere, every token fails temporarily
#   SUBMISSION_PORT, NO_PIPELINING_PORT, NO_CHUNKING_PORT, MINIMAL_PORT    default: free ports
#   MESSAGE_SIZE_LIMIT      in octets; default 1048576
#   RECIPIENT_LIMIT         recipients in one transaction; default 100
#   IDLE_LIMIT              seconds without a command after which a connection is closed; default 300
#   OWNER_PID               a process whose end, however it comes, stops the servers and removes DIR; default: none
set -euo pipefail

script=$(realpath "$0")
# Debian keeps these out of an ordinary user's path.
export PATH="$PATH:/usr/sbin:/sbin"

fail() {
    echo "servers.sh: $*" >&2
    exit 1
}

install_servers() {
    local missing=() package
    for package in postfix dovecot-core openssl; do
        dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    if ((${#missing[@]} == 0)); then
        echo "servers.sh: nothing to install"
        return
    fi
    # The packages start their services unless this file says no; a policy that is already there is the host's own.
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        # shellcheck disable=SC2064 # the path is wanted now
        trap "rm -f '$policy'" EXIT
    fi
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install --yes --no-install-recommends "${missing[@]}"
    if [[ -d /run/systemd/system ]]; then
        for package in "${missing[@]}"; do
            systemctl disable --now --quiet "${package%-core}.service" 2>/dev/null || true
        done
    fi
}

is_listening() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Prints a port that nothing listens on, below the range that the kernel gives to outgoing connections.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        is_listening "$port" || break
    done
    echo "$port"
}

make_certificates() {
    local tls=$dir/tls
    mkdir "$tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=smtp-oauth interop CA" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout "$tls/ca.key" -out "$tls/ca.pem"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
        -keyout "$tls/server.key" -out "$tls/server.csr"
    printf '%s\n' subjectAltName=DNS:localhost basicConstraints=critical,CA:FALSE extendedKeyUsage=serverAuth \
        >"$tls/server.ext"
    openssl x509 -req -in "$tls/server.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 2 \
        -extfile "$tls/server.ext" -out "$tls/server.pem"
    cat "$tls/server.key" "$tls/server.pem" >"$tls/chain.pem"
    chmod 600 "$tls"/*.key "$tls/chain.pem"
}

configure_dovecot() {
    local dovecot=$dir/dovecot
    mkdir "$dovecot"
    cat >"$dovecot/users" <<END
boss@example.test:{PLAIN}correct horse
assistant@example.test:{PLAIN}battery staple
END
    chmod 640 "$dovecot/users"
    chgrp dovecot "$dovecot/users"
    # The endpoint's answer decides: `active` must be true, and `username` must be the user that AUTH named.
    cat >"$dovecot/oauth2.conf.ext" <<END
introspection_mode = post
introspection_url = http://127.0.0.1:$INTROSPECTION_PORT/introspect
force_introspection = yes
active_attribute = active
active_value = true
username_attribute = username
timeout_msecs = 5000
END
    cat >"$dovecot/dovecot.conf" <<END
base_dir = $dovecot/run
state_dir = $dovecot/state
log_path = $dir/dovecot.log
auth_verbose = yes
# The authentication server and nothing else: no IMAP, no POP3, no LMTP.
protocols =
ssl = no
auth_mechanisms = plain login xoauth2 oauthbearer
auth_failure_delay = 0
auth_cache_size = 0
passdb {
  driver = passwd-file
  mechanisms = plain login
  args = $dovecot/users
}
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = $dovecot/oauth2.conf.ext
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}
# Without this, refusals from one address are delayed up to 15 s, and Postfix gives up on Dovecot after 10 s (454 4.7.0).
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  unix_listener $dir/queue/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
END
}

configure_postfix() {
    local postfix=$dir/postfix
    mkdir "$postfix" "$dir/data" "$dir/mail"
    chown postfix "$dir/data"
    chown nobody:nogroup "$dir/mail"

    cat >"$postfix/main.cf" <<END
compatibility_level = 3.6
queue_directory = $dir/queue
data_directory = $dir/data
maillog_file = $dir/postfix.log
maillog_file_prefixes = $dir
smtputf8_enable = yes
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mail.example.test
mydestination =
mynetworks = 127.0.0.1/32
alias_maps =
alias_database =
biff = no

# Nothing leaves this machine: the only transport that delivers is the Maildir below.
default_transport = error:5.1.2 this server delivers to example.test only
relay_transport = error:5.1.2 this server delivers to example.test only
relay_domains =
disable_dns_lookups = yes

# Each recipient's copy is a file of its own in one Maildir, named by its Delivered-To.
virtual_transport = virtual
virtual_mailbox_domains = example.test
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = regexp:$postfix/mailboxes
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)

# What arrives is what is delivered: no header added, dropped or rewritten, but the trace that RFC 5321 §4.4 asks for.
local_header_rewrite_clients =
message_drop_headers =
cleanup_replace_stray_cr_lf = no
# A line end that is not CRLF is our mistake, so nothing repairs it.
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =

smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_chain_files = $dir/tls/chain.pem
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_sasl_security_options = noanonymous

message_size_limit = ${MESSAGE_SIZE_LIMIT:-1048576}
smtpd_recipient_limit = ${RECIPIENT_LIMIT:-100}
smtpd_timeout = ${IDLE_LIMIT:-300}s
smtpd_error_sleep_time = 0
smtpd_client_restrictions =
smtpd_helo_restrictions =
smtpd_sender_login_maps = regexp:$postfix/sender_owners
smtpd_sender_restrictions = reject_known_sender_login_mismatch
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = reject_unauth_destination, check_recipient_access regexp:$postfix/recipients,
    reject_unlisted_recipient, permit_sasl_authenticated, reject
header_checks = regexp:$postfix/headers
END

    # Addresses that the tests can count on to be refused; every other one at example.test is delivered.
    cat >"$postfix/mailboxes" <<'END'
if !/^unknown@/
/@example\.test$/   maildir/
endif
END
    cat >"$postfix/recipients" <<'END'
/^greylisted@example\.test$/   450 4.2.0 Greylisted, try again later
/^full@example\.test$/         452 4.2.2 Mailbox full
END
    cat >"$postfix/sender_owners" <<'END'
/^assistant@example\.test$/   assistant@example.test
END
    cat >"$postfix/headers" <<'END'
/^Subject: refuse this content$/   REJECT Content refused by policy
END

    cat >"$postfix/master.cf" <<END
127.0.0.1:$SUBMISSION_PORT inet n - n - - smtpd
    -o syslog_name=postfix/submission
127.0.0.1:$NO_PIPELINING_PORT inet n - n - - smtpd
    -o syslog_name=postfix/no-pipelining
    -o smtpd_discard_ehlo_keywords=pipelining,chunking,silent-discard
127.0.0.1:$NO_CHUNKING_PORT inet n - n - - smtpd
    -o syslog_name=postfix/no-chunking
    -o smtpd_discard_ehlo_keywords=chunking,silent-discard
127.0.0.1:$MINIMAL_PORT inet n - n - - smtpd
    -o syslog_name=postfix/minimal
    -o smtpd_discard_ehlo_keywords=pipelining,size,dsn,smtputf8,enhancedstatuscodes,silent-discard
    -o smtpd_sasl_mechanism_filter=oauthbearer
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
END
}

# Reads one greeting from a port.
greets() {
    local line
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    read -r -t 5 line <&3 || line=
    exec 3<&- 3>&-
    [[ $line == "220 "* ]]
}

wait_for_servers() {
    local deadline=$((SECONDS + 20)) port
    until [[ -S $dir/queue/private/auth ]]; do
        ((SECONDS < deadline)) || fail "Dovecot did not answer: $(tail -n 5 "$dir/dovecot.log" 2>&1)"
        sleep 0.05
    done
    for port in "$SUBMISSION_PORT" "$NO_PIPELINING_PORT" "$NO_CHUNKING_PORT" "$MINIMAL_PORT"; do
        until greets "$port"; do
            ((SECONDS < deadline)) || fail "port $port did not answer: $(tail -n 5 "$dir/postfix.log" 2>&1)"
            sleep 0.05
        done
    done
}

write_env() {
    cat >"$dir/env" <<END
SUBMISSION_PORT=$SUBMISSION_PORT
NO_PIPELINING_PORT=$NO_PIPELINING_PORT
NO_CHUNKING_PORT=$NO_CHUNKING_PORT
MINIMAL_PORT=$MINIMAL_PORT
CA=$dir/tls/ca.pem
MAILDIR=$dir/mail/maildir
POSTFIX_PID_FILE=$dir/queue/pid/master.pid
DOVECOT_PID_FILE=$dir/dovecot/run/master.pid
POSTFIX_LOG=$dir/postfix.log
DOVECOT_LOG=$dir/dovecot.log
END
}

# Drop does not run in a test that is interrupted or killed, so a watcher looks after what it leaves behind.
watch_owner() {
    (
        while kill -0 "$OWNER_PID" 2>/dev/null && [[ -e $dir/env ]]; do sleep 1; done
        if [[ -e $dir/env ]]; then
            "$script" stop "$dir"
            rm -rf "$dir"
        fi
    ) </dev/null >/dev/null 2>&1 3>&- &
}

start_servers() {
    [[ $(id -u) == 0 ]] || fail "Postfix starts as root only"
    [[ -d $dir && -z $(ls -A "$dir") ]] || fail "$dir is not an empty directory"
    ((${#dir} <= 80)) || fail "$dir is too long for the name of a Unix socket"
    command -v postfix dovecot openssl >/dev/null || fail "servers are missing: run '$script install'"
    : "${INTROSPECTION_PORT:=1}"
    : "${SUBMISSION_PORT:=$(free_port)}" "${NO_PIPELINING_PORT:=$(free_port)}" "${NO_CHUNKING_PORT:=$(free_port)}"
    : "${MINIMAL_PORT:=$(free_port)}"

    # The servers give root up and must still reach their files.
    chmod 755 "$dir"
    mkdir -p "$dir/queue"
    make_certificates >"$dir/openssl.log" 2>&1 || fail "openssl failed: $(cat "$dir/openssl.log")"
    configure_dovecot
    configure_postfix
    trap 'stop_servers' EXIT
    postfix -c "$dir/postfix" start >"$dir/start.log" 2>&1 || fail "postfix failed: $(cat "$dir/start.log" "$dir/postfix.log")"
    dovecot -c "$dir/dovecot/dovecot.conf" >>"$dir/start.log" 2>&1 || fail "dovecot failed: $(cat "$dir/start.log")"
    wait_for_servers
    write_env
    trap - EXIT
    [[ -z ${OWNER_PID-} ]] || watch_owner
}

# Whether a process is one of ours. A pid file outlives a crash, and its number may be another process's by now; a process
# that has ended and that nobody has waited for shows neither its arguments nor its directory.
is_ours() {
    { [[ $(tr '\0' ' ' <"/proc/$1/cmdline") == *"$dir"* || $(readlink "/proc/$1/cwd") == "$dir"/* ]]; } 2>/dev/null
}

stop_servers() {
    local file pid pids=() deadline=$((SECONDS + 10))
    for file in "$dir/queue/pid/master.pid" "$dir/dovecot/run/master.pid"; do
        [[ -s $file ]] || continue
        pid=$(tr -d ' \n' <"$file")
        ! is_ours "$pid" || pids+=("$pid")
    done
    for pid in "${pids[@]}"; do kill "$pid"; done
    for pid in "${pids[@]}"; do
        while is_ours "$pid"; do
            ((SECONDS < deadline)) || fail "process $pid does not stop"
            sleep 0.02
        done
    done
    rm -f "$dir/env"
}

case ${1-} in
install)
    install_servers
    ;;
start | stop)
    dir=$(realpath "${2:?DIR is missing}")
    "${1}_servers"
    ;;
*)
    fail "usage: servers.sh install | start DIR | stop DIR"
    ;;
esac
