#!/bin/sh
# Installs what `make run` needs and this machine lacks: PostgreSQL, Redis and, if it can be had, HAProxy. With --test also
# what the tests need beyond that: HAProxy in any case, Node.js with npm, and Chromium. It says and does nothing when everything is there.
#
# No service is started or left enabled by it, and no database cluster is made: deploy/local starts private servers, and
# a machine on which somebody only ran our tests should not run a database from then on. What was there before is not touched.
set -eu

want_tests=
print_browser=
for argument in "$@"; do
	case $argument in
	--test) want_tests=yes ;;
	--print-browser) print_browser=yes ;;
	*)
		echo "usage: $0 [--test | --print-browser]" >&2
		exit 2
		;;
	esac
done

say() { printf '==> %s\n' "$*" >&2; }
fail() {
	printf 'install.sh: %s\n' "$*" >&2
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# The same places as in pgbin.go and redis.go.
have_postgres() {
	for dir in "${REELAY_PG_BIN:-}" "$(pg_config --bindir 2>/dev/null || true)" \
		"$(dirname "$(command -v initdb || echo /nowhere/initdb)")" \
		/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
		/opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
		/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin /Applications/Postgres.app/Contents/Versions/*/bin; do
		if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then return 0; fi
	done
	return 1
}
have_redis() { [ -x "${REELAY_REDIS_BIN:-}" ] || have redis-server || have valkey-server; }
have_haproxy() { have haproxy || [ -x /usr/sbin/haproxy ] || [ -x /usr/local/sbin/haproxy ]; }
have_node() { have node && have npm; }
browser() {
	if [ -n "${CHROMIUM:-}" ]; then
		[ -x "$CHROMIUM" ] || fail "CHROMIUM=$CHROMIUM is no program"
		echo "$CHROMIUM"
		return
	fi
	for name in chromium google-chrome google-chrome-stable chromium-browser \
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" /Applications/Chromium.app/Contents/MacOS/Chromium; do
		if command -v "$name"; then return; fi
	done
	return 1
}
have_browser() { browser >/dev/null; }
if [ -n "$print_browser" ]; then
	browser || fail "no Chromium here: make deps-test installs it, or set CHROMIUM to the path of one"
	exit 0
fi

# Go's race detector needs cgo, except on macOS, and cgo needs a compiler and the C library's headers.
have_compiler() {
	[ "$(uname -s)" = Darwin ] || echo '#include <stdlib.h>' | "$(go env CC)" -E - >/dev/null 2>&1
}

# missing says what is not there. It is asked again after an installation: a package may not bring the program.
missing() {
	lacking=
	have_postgres || lacking="$lacking postgres"
	have_redis || lacking="$lacking redis"
	if [ -n "$want_tests" ]; then
		have_haproxy || lacking="$lacking haproxy"
		have_node || lacking="$lacking node"
		have_browser || lacking="$lacking browser"
		have_compiler || lacking="$lacking compiler"
		have curl || lacking="$lacking curl"
	fi
	echo "$lacking"
}

have go || fail "Go is missing: https://go.dev/dl has it (version 1.26 or newer)"
needed=$(missing)
optional=
[ -n "$want_tests" ] || have_haproxy || optional=haproxy
[ -n "$needed$optional" ] || exit 0
if [ -z "$needed" ] && [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
	exit 0 # nobody is asked for a password, every time, for what is optional
fi

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "$@"; }

# apt-get waits for the lock of dpkg (above), not for that of the package lists.
apt_update() {
	say "reading the package lists"
	attempt=0
	until said=$(apt -q update 2>&1); do
		attempt=$((attempt + 1))
		case $said in
		*"Could not get lock"* | *"Unable to lock"*) [ $attempt -lt 60 ] || fail "the package lists stayed locked for 5 minutes: $said" ;;
		*) # A third-party list that fails does not matter, as long as the packages are found below.
			printf '%s\n' "$said" >&2
			return 0
			;;
		esac
		say "another program holds the lock of the package lists; waiting"
		sleep 5
	done
}

# restore takes back what guards the installation. It runs on every way out.
policy=/usr/sbin/policy-rc.d
no_cluster=/etc/postgresql-common/createcluster.d/reelay-no-main-cluster.conf
made_policy=
made_no_cluster=
restore() {
	[ -z "$made_policy" ] || as_root rm -f "$policy"
	[ -z "$made_no_cluster" ] || as_root rm -f "$no_cluster"
	made_policy=
	made_no_cluster=
}

# write FILE MODE TEXT
write() { printf '%s\n' "$3" | as_root sh -c 'umask 022; cat >"$1" && chmod "$2" "$1"' write "$1" "$2"; }

# unless_known UNIT… prints the units that this machine does not know: those that an installation brings are ours to disable.
unless_known() {
	for unit in "$@"; do
		if [ ! -e "/lib/systemd/system/$unit.service" ] && [ ! -e "/etc/init.d/$unit" ]; then echo "$unit"; fi
	done
}

install_apt() {
	packages=
	for thing in $needed; do
		case $thing in
		postgres) packages="$packages postgresql" ;;
		redis) packages="$packages redis-server" ;;
		haproxy) packages="$packages haproxy" ;;
		node) packages="$packages nodejs npm" ;;
		browser) packages="$packages chromium fonts-liberation" ;;
		compiler) packages="$packages gcc libc6-dev" ;;
		curl) packages="$packages curl" ;;
		esac
	done
	if [ "$(id -u)" != 0 ] && ! have sudo; then
		fail "missing here:$needed, and installing needs root or sudo. As root: apt-get install$packages"
	fi
	ours=$(unless_known postgresql redis-server haproxy)
	trap restore EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	if [ ! -e "$policy" ]; then
		made_policy=yes
		write "$policy" 755 '#!/bin/sh
exit 101 # made by install.sh of Reelay for as long as it runs: starts no services'
	fi
	if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		made_no_cluster=yes
		as_root mkdir -p "${no_cluster%/*}"
		write "$no_cluster" 644 'create_main_cluster = false'
	fi
	apt_update
	if [ -n "$packages" ]; then
		say "installing$packages"
		# shellcheck disable=SC2086 # A list of words.
		apt -q -y --no-install-recommends install $packages >&2
	fi
	if [ -n "$optional" ]; then
		say "installing $optional"
		# shellcheck disable=SC2086
		apt -q -y --no-install-recommends install $optional >&2 || say "no $optional: make run uses a small balancer of its own"
	fi
	restore
	# Installed is enabled in Debian: without this they would start with the machine from the next time on.
	for unit in $ours; do
		if [ -e "/etc/init.d/$unit" ] && have update-rc.d; then as_root update-rc.d "$unit" disable >&2 || true; fi
		if have systemctl; then as_root systemctl --quiet disable "$unit" >&2 2>&1 || true; fi
	done
}

install_brew() {
	packages=
	for thing in $needed $optional; do
		case $thing in
		postgres) packages="$packages postgresql@17" ;;
		redis) packages="$packages redis" ;;
		node) packages="$packages node" ;;
		haproxy) packages="$packages haproxy" ;;
		curl) packages="$packages curl" ;;
		browser)
			say "installing google-chrome"
			brew install --cask google-chrome >&2
			;;
		esac
	done
	if [ -n "$packages" ]; then
		say "installing$packages"
		# shellcheck disable=SC2086
		brew install $packages >&2
	fi
}

if have apt-get && have dpkg; then
	install_apt
elif have brew; then
	install_brew
elif [ -z "$needed" ]; then
	exit 0 # only the optional is missing
else
	fail "missing here:$needed. Install them with this system's packages, which are usually called
  postgres  postgresql or postgresql-server (version 14 or newer; the server, not only psql)
  redis     redis or valkey
  haproxy   haproxy, which the tests need; without it make run uses a small balancer of its own
  node      nodejs (version 20 or newer) and npm
  browser   chromium
  compiler  gcc and the C library's headers
  curl      curl
If they are in unusual places: REELAY_PG_BIN (the folder of initdb and postgres),
REELAY_REDIS_BIN, CHROMIUM (the programs)."
fi
needed=$(missing)
[ -z "$needed" ] || fail "still missing after the installation:$needed"
